//! The one encoding of evidence.

use super::{
    By, Cut, CutDevice, Evidence, HubKeys, Proof, Reason, RoomEvidence, Said, Sessions,
    SignedEvidence, Step, What,
};
use crate::codec::{DecodeError, Reader, Wire, Writer};
use crate::hash::Digest;
use crate::ids::{AccountId, DeviceId, EvidenceId, Handle, RoomId};
use crate::limits::{
    ACCOUNT_STATEMENTS_MAX, CERTIFICATE_BYTES_MAX, EVIDENCE_BYTES_MAX, EVIDENCE_HUBS_MAX,
    EVIDENCE_PROOF_BYTES_MAX, EVIDENCE_ROOMS_MAX, EVIDENCE_STEPS_MAX, HANDLE_BYTES_MAX,
    ISSUING_SIGNATURE_BYTES_MAX, MANIFEST_BYTES_MAX,
};

const FORMAT: u8 = 1;
/// An account has fewer devices than statements about them.
const DEVICES_MAX: usize = ACCOUNT_STATEMENTS_MAX;

impl Evidence {
    pub(super) fn write_body(&self, writer: &mut Writer) {
        if let Err(what) = self.check() {
            writer.fail(what, 0);
        }
        writer.u8(FORMAT);
        write_cut(writer, &self.cut);
        writer.optional(self.sessions.as_ref(), |writer, sessions| {
            writer.u32(sessions.count);
            writer.u64(sessions.ended_ms);
        });
        for time in [&self.listed_ms, &self.completed_ms] {
            writer.optional(time.as_ref(), |writer, time| writer.u64(*time));
        }
        writer.u64(self.at_ms);
        writer.optional(self.after.as_ref(), |writer, room| {
            writer.fixed(room.as_bytes());
        });
        writer.u8(u8::from(self.more));
        writer.list("hubs", EVIDENCE_HUBS_MAX, &self.hubs, write_hub);
        writer.list("rooms", EVIDENCE_ROOMS_MAX, &self.rooms, write_room);
    }

    fn read_body(reader: &mut Reader) -> Result<Self, DecodeError> {
        let format = reader.u8("format of evidence")?;
        if format != FORMAT {
            return Err(DecodeError::UnknownFormat(format.into()));
        }
        let cut = read_cut(reader)?;
        let sessions = reader.optional("sessions", |reader| {
            Ok(Sessions {
                count: reader.u32("sessions")?,
                ended_ms: reader.u64("end of sessions")?,
            })
        })?;
        let evidence = Self {
            cut,
            sessions,
            listed_ms: reader.optional("listed", |reader| reader.u64("listed"))?,
            completed_ms: reader.optional("completed", |reader| reader.u64("completed"))?,
            at_ms: reader.u64("time")?,
            after: reader.optional("after", |reader| {
                reader.fixed("room").map(RoomId::from_bytes)
            })?,
            more: match reader.u8("more")? {
                0 => false,
                1 => true,
                value => {
                    return Err(DecodeError::UnknownValue {
                        what: "more",
                        value: value.into(),
                    });
                }
            },
            hubs: reader.list("hubs", EVIDENCE_HUBS_MAX, read_hub)?,
            rooms: reader.list("rooms", EVIDENCE_ROOMS_MAX, read_room)?,
        };
        evidence.check().map_err(DecodeError::Invalid)?;
        Ok(evidence)
    }

    /// Its own rules; the field that breaks one.
    fn check(&self) -> Result<(), &'static str> {
        let digest = |hub: &HubKeys| Digest::of(&hub.manifest);
        let hubs: Vec<Digest> = self.hubs.iter().map(digest).collect();
        let first = self.rooms.first().map(|room| room.room);
        let rules = [
            (
                self.cut.devices.is_sorted_by(|a, b| a.device < b.device),
                "devices",
            ),
            (
                hubs.is_sorted_by(|a, b| a.as_bytes() < b.as_bytes()),
                "hubs",
            ),
            (
                self.rooms.is_sorted_by(|a, b| a.room < b.room),
                "order of rooms",
            ),
            (
                self.after
                    .is_none_or(|after| first.is_none_or(|first| after < first)),
                "beginning of the page",
            ),
            (!self.more || first.is_some(), "empty page"),
        ];
        if let Some((_, what)) = rules.into_iter().find(|(holds, _)| !holds) {
            return Err(what);
        }
        self.rooms.iter().try_for_each(|room| self.check_room(room))
    }

    fn check_room(&self, room: &RoomEvidence) -> Result<(), &'static str> {
        let is_cut = |device: &DeviceId| {
            let found = self
                .cut
                .devices
                .binary_search_by(|cut| cut.device.cmp(device));
            found.is_ok()
        };
        if room.devices.is_empty() || !ascending(&room.devices) || !room.devices.iter().all(is_cut)
        {
            return Err("devices of a room");
        }
        let is_here = |device: &DeviceId| room.devices.binary_search(device).is_ok();
        let fits = |step: &Step| {
            !step.devices.is_empty() && ascending(&step.devices) && step.devices.iter().all(is_here)
        };
        if room.steps.iter().all(fits) {
            Ok(())
        } else {
            Err("devices of a step")
        }
    }
}

fn ascending<T: Ord>(items: &[T]) -> bool {
    items.is_sorted_by(|left, right| left < right)
}

fn write_devices(writer: &mut Writer, devices: &[DeviceId]) {
    writer.list("devices", DEVICES_MAX, devices, |writer, device| {
        writer.fixed(device.as_bytes());
    });
}

fn read_devices(reader: &mut Reader) -> Result<Vec<DeviceId>, DecodeError> {
    reader.list("devices", DEVICES_MAX, |reader| {
        reader.fixed("device").map(DeviceId::from_bytes)
    })
}

fn write_cut(writer: &mut Writer, cut: &Cut) {
    writer.fixed(cut.evidence.as_bytes());
    writer.server_name(&cut.server);
    writer.fixed(cut.account.as_bytes());
    writer.opaque8("handle", HANDLE_BYTES_MAX, cut.handle.as_str().as_bytes());
    writer.u8(match cut.reason {
        Reason::UserDeleted => 1,
        Reason::UserSuspended => 2,
        Reason::DeviceRemoved => 3,
    });
    match &cut.by {
        By::Administrator(name) => {
            writer.u8(1);
            writer.opaque8("administrator", HANDLE_BYTES_MAX, name.as_str().as_bytes());
        }
        By::Operator(user) => {
            writer.u8(2);
            writer.u32(*user);
        }
        By::Device(device) => {
            writer.u8(3);
            writer.fixed(device.as_bytes());
        }
        By::System => writer.u8(4),
    }
    writer.u64(cut.cut_ms);
    writer.list("devices", DEVICES_MAX, &cut.devices, |writer, device| {
        writer.fixed(device.device.as_bytes());
        writer.fixed(&device.key);
    });
}

fn read_cut(reader: &mut Reader) -> Result<Cut, DecodeError> {
    Ok(Cut {
        evidence: reader.fixed("evidence").map(EvidenceId::from_bytes)?,
        server: reader.server_name("server")?,
        account: reader.fixed("account").map(AccountId::from_bytes)?,
        handle: read_handle(reader, "handle")?,
        reason: match reader.u8("reason of a cut")? {
            1 => Reason::UserDeleted,
            2 => Reason::UserSuspended,
            3 => Reason::DeviceRemoved,
            value => return Err(unknown("reason of a cut", value)),
        },
        by: match reader.u8("who cut off")? {
            1 => By::Administrator(read_handle(reader, "administrator")?),
            2 => By::Operator(reader.u32("operator")?),
            3 => By::Device(reader.fixed("device").map(DeviceId::from_bytes)?),
            4 => By::System,
            value => return Err(unknown("who cut off", value)),
        },
        cut_ms: reader.u64("time of the cut")?,
        devices: reader.list("devices", DEVICES_MAX, |reader| {
            Ok(CutDevice {
                device: reader.fixed("device").map(DeviceId::from_bytes)?,
                key: reader.fixed("key of a device")?,
            })
        })?,
    })
}

fn read_handle(reader: &mut Reader, what: &'static str) -> Result<Handle, DecodeError> {
    let bytes = reader.opaque8(what, HANDLE_BYTES_MAX)?;
    std::str::from_utf8(&bytes)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or(DecodeError::Invalid(what))
}

fn write_hub(writer: &mut Writer, hub: &HubKeys) {
    writer.server_name(&hub.server);
    writer.opaque16("root", CERTIFICATE_BYTES_MAX, &hub.root);
    writer.opaque16("manifest", MANIFEST_BYTES_MAX, &hub.manifest);
}

fn read_hub(reader: &mut Reader) -> Result<HubKeys, DecodeError> {
    Ok(HubKeys {
        server: reader.server_name("hub")?,
        root: reader.opaque16("root", CERTIFICATE_BYTES_MAX)?,
        manifest: reader.opaque16("manifest", MANIFEST_BYTES_MAX)?,
    })
}

fn write_room(writer: &mut Writer, room: &RoomEvidence) {
    writer.fixed(room.room.as_bytes());
    writer.server_name(&room.hub);
    write_devices(writer, &room.devices);
    writer.list("steps", EVIDENCE_STEPS_MAX, &room.steps, write_step);
}

fn read_room(reader: &mut Reader) -> Result<RoomEvidence, DecodeError> {
    Ok(RoomEvidence {
        room: reader.fixed("room").map(RoomId::from_bytes)?,
        hub: reader.server_name("hub")?,
        devices: read_devices(reader)?,
        steps: reader.list("steps", EVIDENCE_STEPS_MAX, read_step)?,
    })
}

fn write_step(writer: &mut Writer, step: &Step) {
    writer.u64(step.at_ms);
    write_devices(writer, &step.devices);
    let (number, said) = match &step.what {
        What::Asked => (1, None),
        What::Accepted => (2, None),
        What::Ordered(said) => (3, Some(said)),
        What::Removed(said) => (4, Some(said)),
        What::Ended => (5, None),
    };
    writer.u8(number);
    if let Some(said) = said {
        writer.u64(said.epoch);
        writer.u64(said.stamp_ms);
        writer.optional(said.proof.as_ref(), |writer, proof| {
            writer.fixed(proof.manifest.as_bytes());
            proof.place.write(writer);
            writer.opaque32("envelope", EVIDENCE_PROOF_BYTES_MAX, &proof.envelope);
        });
    }
}

fn read_step(reader: &mut Reader) -> Result<Step, DecodeError> {
    Ok(Step {
        at_ms: reader.u64("time of a step")?,
        devices: read_devices(reader)?,
        what: match reader.u8("kind of a step")? {
            1 => What::Asked,
            2 => What::Accepted,
            3 => What::Ordered(read_said(reader)?),
            4 => What::Removed(read_said(reader)?),
            5 => What::Ended,
            value => return Err(unknown("kind of a step", value)),
        },
    })
}

fn read_said(reader: &mut Reader) -> Result<Said, DecodeError> {
    Ok(Said {
        epoch: reader.u64("epoch")?,
        stamp_ms: reader.u64("stamp")?,
        proof: reader.optional("proof", |reader| {
            Ok(Proof {
                manifest: reader.fixed("hash of a manifest").map(Digest::from_bytes)?,
                place: crate::transaction::EnvelopeProof::read(reader)?,
                envelope: reader.opaque32("envelope", EVIDENCE_PROOF_BYTES_MAX)?,
            })
        })?,
    })
}

fn unknown(what: &'static str, value: u8) -> DecodeError {
    DecodeError::UnknownValue {
        what,
        value: value.into(),
    }
}

impl Wire for SignedEvidence {
    const BYTES_MAX: usize = EVIDENCE_BYTES_MAX;
    const NAME: &'static str = "evidence of deprovisioning";

    fn write(&self, writer: &mut Writer) {
        self.evidence.write_body(writer);
        writer.opaque16("issuing certificate", CERTIFICATE_BYTES_MAX, &self.issuing);
        writer.opaque8("signature", ISSUING_SIGNATURE_BYTES_MAX, &self.signature);
    }

    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            evidence: Evidence::read_body(reader)?,
            issuing: reader.opaque16("issuing certificate", CERTIFICATE_BYTES_MAX)?,
            signature: reader.opaque8("signature", ISSUING_SIGNATURE_BYTES_MAX)?,
        })
    }
}
