//! What an administrator is told of an agreement's charter, and of the next one.

use federation_proto::agreement::Signed;

use super::super::directory::{Chartered, PeerView};
use super::super::view::{chartered, has_renewed};
use super::known;
use crate::node::Node;
use crate::store::StoreError;
use crate::store::peer::{OurHalf, PeerRecord};

/// What is to come when the agreement's last day does; `None`: it has nothing to do with a consortium.
pub(in super::super) async fn prospect(
    node: &Node,
    view: &PeerView,
) -> Result<Option<String>, StoreError> {
    let Some(chartered) = &view.chartered else {
        return Ok(None);
    };
    let server = &view.server;
    let known = known(node, chartered.consortium).await?;
    let newest = known.filter(|known| known.charter.body().serial > chartered.serial);
    let Some(known) = newest else {
        return Ok(Some(no_next(chartered)));
    };
    let (body, name) = (known.charter.body(), &known.charter.body().name);
    let serial = body.serial;
    let with_it = chartered.renewal.as_ref();
    let with_it = with_it.filter(|renewal| renewal.serial == serial);
    Ok(Some(match with_it {
        Some(_) if chartered.renewed => no_next(chartered),
        Some(renewal) if renewal.ours == OurHalf::Refused => {
            format!("{server} did not consent to what charter {serial} of {name:?} states.")
        }
        Some(_) => format!("Charter {serial} of {name:?} renews it; that is under way."),
        None if !body.members.iter().any(|member| member.server == *server) => {
            format!("Charter {serial} of {name:?}, which was signed here, leaves {server} out.")
        }
        None if !known.charter.is_signed_by(server) => format!(
            "Charter {serial} of {name:?} was signed here, but not by {server} as far as is known here: `hsctl \
             consortium join` with its signature renews the agreement."
        ),
        None => format!(
            "Charter {serial} of {name:?} was signed here and by {server}: `hsctl consortium join` renews the agreement."
        ),
    }))
}

fn no_next(chartered: &Chartered) -> String {
    format!("No later charter of {:?} was signed here.", chartered.name)
}

/// Which charter the agreement follows from, and which one renews it, a sentence a line.
pub(in super::super) fn lines(signed: &Signed, record: &PeerRecord) -> Vec<String> {
    let Some(chartered) = chartered(signed, record) else {
        return Vec::new();
    };
    let server = &signed.theirs().from;
    let mut lines = vec![format!(
        "It follows from charter {} of the consortium {:?}.",
        chartered.serial, chartered.name
    )];
    let Some(renewal) = chartered.renewal else {
        return lines;
    };
    let ours = match renewal.ours {
        OurHalf::Due => "our half has yet to be stated",
        OurHalf::Proposed(_) => "our half waits for its consent",
        OurHalf::InForce => "our half is in force",
        OurHalf::Refused => "it did not consent to our half",
    };
    let theirs = if has_renewed(signed.theirs(), &renewal) {
        "its own half is in force"
    } else {
        "its own half has not come yet"
    };
    lines.push(if chartered.renewed {
        format!("Charter {} of it has renewed it.", renewal.serial)
    } else {
        format!(
            "Charter {} of it renews the agreement with {server}: {ours}, and {theirs}.",
            renewal.serial
        )
    });
    lines
}
