//! New devices of an account, on either side of the approval.

use homeserver_api::client::WaitingDevice;
use homeserver_api::ids::DeviceId;

use super::*;
use crate::core::device_code;
use crate::mls::DeviceKey;

/// A device with a key of its own that waits at the homeserver.
fn waiting(homeserver: &Loopback) -> (WaitingDevice, Vec<u8>) {
    let key = DeviceKey::generate().unwrap().public().unwrap();
    let device = WaitingDevice {
        device: DeviceId::from_bytes([9; 16]),
        name: "telephone".to_owned(),
        public_key: key.clone().into(),
        asked_ms: 0,
        until_ms: u64::MAX,
    };
    homeserver.waiting.lock().unwrap().push(device.clone());
    (device, key)
}

/// Goal: the device whose code a person types is approved with a statement that the device log takes, and no other; by one
/// that waits, a code of nothing, and a homeserver that shows another key than the new device has.
#[tokio::test]
async fn approving() {
    within(async {
        let homeserver = Loopback::start("a.example").await;
        let alice = person(&homeserver, "alice").await;
        let address = alice.client.address();
        let (device, key) = waiting(&homeserver);
        let code = device_code(&key, &address);
        for wrong in ["0000-0000-0000", "no code"] {
            assert!(alice.client.approve_device(wrong).await.is_err());
        }
        homeserver.waiting.lock().unwrap()[0].public_key = vec![7; 32].into();
        assert!(alice.client.approve_device(&code).await.is_err());
        let member = alice.client.member();
        let chain = || homeserver.network().logs[&member.server].chain(member.account);
        assert_eq!(chain().serial(), 1, "nothing was approved");

        homeserver.waiting.lock().unwrap()[0] = device.clone();
        let typed = code.to_lowercase().replace('-', " ");
        let approved = alice.client.approve_device(&typed).await.unwrap();
        assert_eq!(approved, device);
        let known = chain();
        let known = known.device(device.device).unwrap();
        assert_eq!((known.key.to_vec(), known.reset), (key, None));
        let declined = alice.client.decline_device(&code).await.unwrap();
        assert_eq!(declined, device);
        assert!(homeserver.waiting.lock().unwrap().is_empty());
    })
    .await;
}

/// Goal: a new device that has to wait shows the code of its own key, and enrols once it is approved; by a homeserver that
/// lets it wait.
#[tokio::test]
async fn waiting_for_approval() {
    within(async {
        let homeserver = Loopback::start("a.example").await;
        *homeserver.next_waits.lock().unwrap() = true;
        let folder = tempfile::tempdir().unwrap();
        let mut shown = None;
        let enrolment = enrolment(&homeserver, "alice");
        let client = Client::enrol_with(folder.path(), KEY, enrolment, |waiting: &Waiting| {
            shown = Some(waiting.clone());
        })
        .await
        .unwrap();
        let shown = shown.expect("it had to wait");
        let member = client.member();
        let chain = homeserver.network().logs[&member.server].chain(member.account);
        let key = chain.device(member.device).unwrap().key;
        assert_eq!(shown.code, device_code(&key, &client.address()));
        assert!(shown.qr.ends_with(&hex::encode(key)), "{}", shown.qr);
    })
    .await;
}
