//! Protocol versions, negotiated as sets, so that two can be spoken at once while peers upgrade.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::codec::{DecodeError, Reader, Wire, Writer};
use crate::limits::VERSIONS_MAX;

/// A version of the federation protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Version(pub u16);

/// What this build speaks, ascending. Its unit tests speak a second version, of the same formats under
/// another number: so two at once are tried before there is a second one.
const SPOKEN: &[Version] = &[
    Version::V1,
    #[cfg(test)]
    Version(2),
];

impl Version {
    /// The first version.
    pub const V1: Self = Self(1);

    /// Whether this build speaks it: every decoder and every encoder asks here.
    #[must_use]
    pub fn is_spoken(self) -> bool {
        SPOKEN.contains(&self)
    }

    pub(crate) fn write(self, writer: &mut Writer) {
        if !self.is_spoken() {
            writer.fail("protocol version", VERSIONS_MAX);
        }
        writer.u16(self.0);
    }

    pub(crate) fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        let version = Self(reader.u16("version")?);
        if version.is_spoken() {
            Ok(version)
        } else {
            Err(DecodeError::UnsupportedVersion(version.0))
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The versions that one side speaks: at least one, at most [`VERSIONS_MAX`], ascending.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct VersionSet(Vec<Version>);

impl VersionSet {
    /// What this build speaks.
    #[must_use]
    pub fn ours() -> Self {
        Self(SPOKEN.to_vec())
    }

    /// The set of these versions; `None` when there is none or there are too many.
    pub fn new(versions: impl IntoIterator<Item = Version>) -> Option<Self> {
        let mut versions: Vec<_> = versions.into_iter().collect();
        versions.sort_unstable();
        versions.dedup();
        (!versions.is_empty() && versions.len() <= VERSIONS_MAX).then_some(Self(versions))
    }

    /// Whether the set holds `version`.
    #[must_use]
    pub fn contains(&self, version: Version) -> bool {
        self.0.binary_search(&version).is_ok()
    }

    /// The versions, ascending.
    pub fn iter(&self) -> impl Iterator<Item = Version> + '_ {
        self.0.iter().copied()
    }
}

impl fmt::Display for VersionSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, version) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{version}")?;
        }
        Ok(())
    }
}

/// The highest version that both sides speak.
#[must_use]
pub fn negotiate(ours: &VersionSet, theirs: &VersionSet) -> Option<Version> {
    ours.iter()
        .filter(|version| theirs.contains(*version))
        .max()
}

impl Wire for VersionSet {
    const BYTES_MAX: usize = 4 + 2 * VERSIONS_MAX;
    const NAME: &'static str = "version set";

    fn write(&self, writer: &mut Writer) {
        writer.list("versions", VERSIONS_MAX, &self.0, |writer, version| {
            writer.u16(version.0);
        });
    }

    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        let versions = reader.ascending_list("versions", VERSIONS_MAX, |reader| {
            reader.u16("version").map(Version)
        })?;
        if versions.is_empty() {
            return Err(DecodeError::Empty("versions"));
        }
        Ok(Self(versions))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(versions: &[u16]) -> VersionSet {
        VersionSet::new(versions.iter().copied().map(Version)).unwrap()
    }

    /// Goal: while one side speaks two versions, it talks to a peer with the old one, to a peer
    /// with the new one and to a peer with both (there the higher); by a table of sets.
    #[test]
    fn two_versions_at_once() {
        let both = set(&[1, 2]);
        assert_eq!(negotiate(&both, &set(&[1])), Some(Version(1)));
        assert_eq!(negotiate(&both, &set(&[2])), Some(Version(2)));
        assert_eq!(negotiate(&both, &both), Some(Version(2)));
        assert_eq!(negotiate(&both, &set(&[2, 3])), Some(Version(2)));
        assert_eq!(negotiate(&set(&[3]), &both), None);
    }

    /// Goal: a set on the wire is ascending, without repeats, neither empty nor too long; by
    /// decoding sets that break each rule.
    #[test]
    fn one_encoding_per_set() {
        let encode = |versions: &[u16]| {
            let mut writer = Writer::new();
            writer.list("versions", 100, versions, |writer, version| {
                writer.u16(*version);
            });
            writer.finish().unwrap()
        };
        assert_eq!(VersionSet::from_bytes(encode(&[1, 2])), Ok(set(&[2, 1])));
        assert_eq!(
            VersionSet::from_bytes(encode(&[2, 1])),
            Err(DecodeError::NotAscending("versions"))
        );
        assert_eq!(
            VersionSet::from_bytes(encode(&[1, 1])),
            Err(DecodeError::NotAscending("versions"))
        );
        assert_eq!(
            VersionSet::from_bytes(encode(&[])),
            Err(DecodeError::Empty("versions"))
        );
        assert!(VersionSet::from_bytes(encode(&[1, 2, 3, 4, 5, 6, 7, 8, 9])).is_err());
        assert_eq!(VersionSet::new([]), None);
    }
}
