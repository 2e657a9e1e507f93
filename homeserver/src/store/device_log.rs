//! `B`: the device log: statements about devices in the order in which they were written; see
//! `identity::device_log`. Nothing deletes them.

use federation_proto::codec::Wire;
use federation_proto::device_log::DeviceStatement;

use super::{Key, Order, Part, Store, StoreError, Value};

const FAMILY: &str = "device log";
const VERSION: u8 = 1;
const ENTRY: &[u8] = b"Be";
const TAIL: &[u8] = b"Bt";

/// Adds a statement at the log's end, whatever is written to it meanwhile. That it is its account's next one,
/// the account's record guards.
pub fn append(part: &mut Part, statement: &DeviceStatement) -> Result<(), StoreError> {
    let bytes = statement
        .to_bytes()
        .map_err(|_| StoreError::Corrupt { family: FAMILY })?;
    let value: Value = [&[VERSION][..], &bytes].concat().into();
    part.append(Key::from_static(TAIL), Key::from_static(ENTRY), value);
    Ok(())
}

/// Up to `limit` statements behind the first `after`, in the log's order.
pub async fn read(
    store: &Store,
    after: u64,
    limit: usize,
) -> Result<Vec<DeviceStatement>, StoreError> {
    let corrupt = || StoreError::Corrupt { family: FAMILY };
    let from = [ENTRY, &after.saturating_add(1).to_be_bytes()].concat();
    let to = super::record::prefix_end(ENTRY);
    let entries = store.range(&from, &to, limit, Order::Ascending).await?;
    let mut expected = after;
    entries
        .iter()
        .map(|(key, value)| {
            expected = expected.saturating_add(1);
            // A hole would move every later statement to another place.
            if key.get(ENTRY.len()..) != Some(&expected.to_be_bytes()[..]) {
                return Err(corrupt());
            }
            match value.split_first() {
                Some((&VERSION, bytes)) => {
                    DeviceStatement::from_bytes(bytes.to_vec()).map_err(|_| corrupt())
                }
                _ => Err(corrupt()),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use federation_proto::device_log::How;
    use federation_proto::hash::Digest;
    use federation_proto::ids::{AccountId, DeviceId};

    use super::*;

    /// Goal: the stored form never changes unseen; by comparing with fixed bytes.
    #[test]
    fn stored_form() {
        let statement = DeviceStatement {
            account: AccountId::from_bytes([1; 16]),
            device: DeviceId::from_bytes([2; 16]),
            key: [3; 32],
            serial: 1,
            previous: Digest::ZERO,
            at_ms: 7,
            how: How::Reset,
        };
        let mut part = Part::default();
        append(&mut part, &statement).unwrap();
        let fields = [
            &[1, 1][..],
            &[1; 16],
            &[2; 16],
            &[3; 32],
            &1_u64.to_be_bytes(),
            &[0; 32],
            &7_u64.to_be_bytes(),
            &[3],
        ];
        let expected = super::super::Write::Append {
            tail: Key::from_static(b"Bt"),
            prefix: Key::from_static(b"Be"),
            value: fields.concat().into(),
            beside: None,
        };
        assert_eq!(part.writes, [expected]);
    }
}
