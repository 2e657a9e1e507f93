//! Which complete subtrees a proof is made of, for a log whose nodes lie in a store and not in memory.

use std::ops::Range;

use super::node;
use crate::hash::Digest;

/// Where a complete subtree lies: on level 0 it is a leaf, on level n it has 2^n leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// Its level.
    pub level: u8,
    /// Which one of its level, from 0.
    pub index: u64,
}

/// The parts of the tree whose roots are the path from the leaf at `index` to the root of a tree of `size` leaves: each a
/// range of leaves, from the leaf up (RFC 9162, section 2.1.3.1). None when the tree has no such leaf.
#[must_use]
pub fn path_parts(index: u64, size: u64) -> Vec<Range<u64>> {
    let mut parts = Vec::new();
    if index >= size {
        return parts;
    }
    let (mut from, mut to) = (0, size);
    while to - from > 1 {
        let middle = from + split(to - from);
        if index < middle {
            parts.push(middle..to);
            to = middle;
        } else {
            parts.push(from..middle);
            from = middle;
        }
    }
    parts.reverse();
    parts
}

/// The parts of the tree whose roots show that a tree of `size` leaves has grown from its own first `first` leaves (RFC
/// 9162, section 2.1.4.1). None where there is nothing to show.
#[must_use]
pub fn growth_parts(first: u64, size: u64) -> Vec<Range<u64>> {
    let mut parts = Vec::new();
    if first == 0 || first >= size {
        return parts;
    }
    let (mut from, mut to) = (0, size);
    while first != to {
        let middle = from + split(to - from);
        if first <= middle {
            parts.push(middle..to);
            to = middle;
        } else {
            parts.push(from..middle);
            from = middle;
        }
    }
    // What begins with the first leaf is the smaller tree itself, whose root is known.
    if from > 0 {
        parts.push(from..to);
    }
    parts.reverse();
    parts
}

/// The complete subtrees that a part of a proof consists of, the leftmost first.
#[must_use]
pub fn complete_in(part: &Range<u64>) -> Vec<Place> {
    let mut places = Vec::new();
    let mut at = part.start;
    while at < part.end {
        let level = at.trailing_zeros().min((part.end - at).ilog2());
        places.push(Place {
            level: u8::try_from(level).unwrap_or(u8::MAX),
            index: at >> level,
        });
        at = at.saturating_add(1 << level);
    }
    places
}

/// The root over complete subtrees that lie side by side, the leftmost and largest first; all zeros for none.
#[must_use]
pub fn join(subtrees: &[Digest]) -> Digest {
    let mut smallest_first = subtrees.iter().rev();
    let smallest = smallest_first.next().copied();
    smallest.map_or(Digest::ZERO, |smallest| {
        smallest_first.fold(smallest, |hash, left| node(left, &hash))
    })
}

/// The largest power of two below `size`, which is more than 1.
const fn split(size: u64) -> u64 {
    1 << (size - 1).ilog2()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::merkle::{Frontier, Tree, leaf};

    fn wide(n: usize) -> u64 {
        u64::try_from(n).unwrap()
    }

    /// Goal: proofs that are put together from stored nodes are those of the tree in memory, and every node that they need
    /// was told when it was complete. Method: all sizes up to 70, all leaves and all smaller sizes.
    #[test]
    fn proofs_from_stored_nodes() {
        let mut stored = BTreeMap::new();
        let mut frontier = Frontier::default();
        let mut tree = Tree::new(Vec::new());
        for size in 1..=70_usize {
            let hash = leaf(&size.to_be_bytes());
            let index = frontier.size();
            stored.insert(Place { level: 0, index }, hash);
            frontier.push_noting(hash, |place, hash| {
                assert_eq!(stored.insert(place, hash), None);
            });
            tree.push(hash);
            assert_eq!(frontier.root(), tree.root());
            assert!(frontier.is_whole());
            let made = |parts: Vec<Range<u64>>| -> Vec<Digest> {
                let root = |part: &Range<u64>| {
                    let places = complete_in(part);
                    let nodes: Vec<_> = places.iter().map(|place| stored[place]).collect();
                    join(&nodes)
                };
                parts.iter().map(root).collect()
            };
            for index in 0..size {
                let path = made(path_parts(wide(index), wide(size)));
                assert_eq!(path, tree.path(index), "{index} of {size}");
            }
            for first in 0..=size {
                let growth = made(growth_parts(wide(first), wide(size)));
                assert_eq!(growth, tree.consistency(first), "{first} to {size}");
            }
            assert_eq!(path_parts(wide(size), wide(size)), []);
        }
        assert_eq!(join(&[]), Digest::ZERO);
    }
}
