//! Merkle trees as RFC 9162 (section 2.1) defines them: over a transaction's headers, and over device logs and audit
//! logs, which grow.

mod ranges;

use serde::{Deserialize, Serialize};

use crate::hash::{Digest, LEAF, NODE};

pub use ranges::{Place, complete_in, growth_parts, join, path_parts};

/// A tree with all its nodes: the root and every leaf's path come from here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    // From the leaves up; a level's odd last node moves up unchanged. That is the tree of
    // RFC 9162's recursive definition, built bottom-up.
    levels: Vec<Vec<Digest>>,
}

impl Tree {
    /// The tree over these leaf hashes.
    #[must_use]
    pub fn new(leaves: Vec<Digest>) -> Self {
        let mut levels = Vec::new();
        let mut level = leaves;
        while level.len() > 1 {
            let above = level
                .chunks(2)
                .map(|pair| match pair {
                    [left, right] => node(left, right),
                    [single, ..] => *single,
                    [] => Digest::ZERO,
                })
                .collect();
            levels.push(std::mem::replace(&mut level, above));
        }
        levels.push(level);
        Self { levels }
    }

    /// Adds a leaf at the end. Costs a hash for each level: what lies to the left stays as it is.
    pub fn push(&mut self, leaf: Digest) {
        let mut hash = leaf;
        let mut level = 0;
        let mut at = self.size();
        loop {
            if self.levels.len() == level {
                self.levels.push(Vec::new());
            }
            let Some(row) = self.levels.get_mut(level) else {
                return;
            };
            row.truncate(at);
            row.push(hash);
            if row.len() == 1 {
                // The root; levels above it there are none.
                self.levels.truncate(level + 1);
                return;
            }
            if at % 2 == 1
                && let Some(left) = at.checked_sub(1).and_then(|left| row.get(left))
            {
                hash = node(left, &hash);
            }
            at /= 2;
            level += 1;
        }
    }

    /// The root; all zeros for a tree of nothing, which no transaction has.
    #[must_use]
    pub fn root(&self) -> Digest {
        self.levels
            .last()
            .and_then(|level| level.first())
            .copied()
            .unwrap_or(Digest::ZERO)
    }

    /// How many leaves.
    #[must_use]
    pub fn size(&self) -> usize {
        self.levels.first().map_or(0, Vec::len)
    }

    /// The path from leaf `index` to the root: the siblings, from the leaf up.
    #[must_use]
    pub fn path(&self, index: usize) -> Vec<Digest> {
        let mut at = index;
        let mut path = Vec::new();
        for level in &self.levels {
            if let Some(sibling) = level.get(at ^ 1) {
                path.push(*sibling);
            }
            at /= 2;
        }
        path
    }

    /// What shows that this tree has grown from its own first `first` leaves (RFC 9162, section 2.1.4.1);
    /// empty for a tree of nothing and for the whole tree, where there is nothing to show.
    #[must_use]
    pub fn consistency(&self, first: usize) -> Vec<Digest> {
        if first == 0 || first >= self.size() {
            return Vec::new();
        }
        // The largest complete subtree that ends where the smaller tree ends.
        let mut level = 0;
        let mut at = first - 1;
        while at % 2 == 1 {
            at /= 2;
            level += 1;
        }
        let mut path = Vec::new();
        if !first.is_power_of_two()
            && let Some(start) = self.levels.get(level).and_then(|row| row.get(at))
        {
            path.push(*start);
        }
        for row in self.levels.iter().skip(level) {
            if let Some(sibling) = row.get(at ^ 1) {
                path.push(*sibling);
            }
            at /= 2;
        }
        path
    }
}

/// A tree that grows, without its leaves: what it takes to add more, and to say its root.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Frontier {
    size: u64,
    // The roots of the complete trees that it consists of: the largest one, which is the leftmost, first.
    nodes: Vec<Digest>,
}

impl Frontier {
    /// The tree of what lies before the leaf at `index`, from that leaf's path in a tree of `size` leaves. Whether the
    /// path leads to a root that is known, [`root_from_path`] says. `None` when it has the wrong length.
    #[must_use]
    pub fn before(index: u64, size: u64, path: &[Digest]) -> Option<Self> {
        let (mut at, mut last) = (index, size.checked_sub(1)?);
        let mut rest = path.iter();
        let mut nodes = Vec::new();
        while last > 0 {
            if at % 2 == 1 {
                nodes.push(*rest.next()?);
            } else if at < last {
                rest.next()?;
            }
            at /= 2;
            last /= 2;
        }
        nodes.reverse();
        let whole = index < size && rest.next().is_none();
        whole.then_some(Self { size: index, nodes })
    }

    /// Adds a leaf at the end.
    pub fn push(&mut self, leaf: Digest) {
        self.push_noting(leaf, |_, _| ());
    }

    /// Adds a leaf at the end. `complete` is told of each subtree of two leaves and more that this one completes, which
    /// never changes from then on.
    pub fn push_noting(&mut self, leaf: Digest, mut complete: impl FnMut(Place, Digest)) {
        let mut hash = leaf;
        let mut place = Place {
            level: 0,
            index: self.size,
        };
        while place.index % 2 == 1
            && let Some(left) = self.nodes.pop()
        {
            hash = node(&left, &hash);
            place = Place {
                level: place.level.saturating_add(1),
                index: place.index / 2,
            };
            complete(place, hash);
        }
        self.nodes.push(hash);
        self.size = self.size.saturating_add(1);
    }

    /// Whether it has as many nodes as a tree of its size: one that was read may not.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        u32::try_from(self.nodes.len()).is_ok_and(|nodes| nodes == self.size.count_ones())
    }

    /// How many leaves.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The root; all zeros for a tree of nothing.
    #[must_use]
    pub fn root(&self) -> Digest {
        join(&self.nodes)
    }
}

/// The hash of a leaf with these bytes.
#[must_use]
pub fn leaf(bytes: &[u8]) -> Digest {
    Digest::of_parts(&[&[LEAF], bytes])
}

/// The root that `path` leads to from the leaf at `index` of a tree of `size` leaves; `None` when
/// the path has the wrong length (RFC 9162, section 2.1.3.2).
#[must_use]
pub fn root_from_path(leaf: Digest, index: u64, size: u64, path: &[Digest]) -> Option<Digest> {
    if index >= size {
        return None;
    }
    let mut at = index;
    let mut last = size - 1;
    let mut hash = leaf;
    for sibling in path {
        if last == 0 {
            return None;
        }
        if at % 2 == 1 || at == last {
            hash = node(sibling, &hash);
            while at.is_multiple_of(2) && at != 0 {
                at /= 2;
                last /= 2;
            }
        } else {
            hash = node(&hash, sibling);
        }
        at /= 2;
        last /= 2;
    }
    (last == 0).then_some(hash)
}

/// Whether `path` shows that the tree of `second` leaves with the root `second_root` has grown from the one
/// of `first` leaves with the root `first_root` (RFC 9162, section 2.1.4.2). Every tree grows from nothing.
#[must_use]
pub fn has_grown(
    (first, first_root): (u64, Digest),
    (second, second_root): (u64, Digest),
    path: &[Digest],
) -> bool {
    if first == 0 || first == second {
        return path.is_empty() && (first == 0 || first_root == second_root);
    }
    if first > second {
        return false;
    }
    let mut rest = path.iter();
    let start = if first.is_power_of_two() {
        Some(&first_root)
    } else {
        rest.next()
    };
    let Some(start) = start else {
        return false;
    };
    let (mut at, mut last) = (first - 1, second - 1);
    while at % 2 == 1 {
        at /= 2;
        last /= 2;
    }
    let (mut old, mut new) = (*start, *start);
    for sibling in rest {
        if last == 0 {
            return false;
        }
        if at % 2 == 1 || at == last {
            old = node(sibling, &old);
            new = node(sibling, &new);
            while at.is_multiple_of(2) && at != 0 {
                at /= 2;
                last /= 2;
            }
        } else {
            new = node(&new, sibling);
        }
        at /= 2;
        last /= 2;
    }
    last == 0 && old == first_root && new == second_root
}

fn node(left: &Digest, right: &Digest) -> Digest {
    Digest::of_parts(&[&[NODE], left.as_bytes(), right.as_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(count: usize) -> Vec<Digest> {
        (0..count).map(|n| leaf(&n.to_be_bytes())).collect()
    }

    /// Goal: a tree without its leaves has the root of the whole one, from nothing on and from any leaf's path on, and no
    /// path of another length is taken; by all small sizes.
    #[test]
    fn frontiers() {
        for size in 1..=40_usize {
            let leaves = leaves(size);
            let tree = Tree::new(leaves.clone());
            let mut grown = Frontier::default();
            for leaf in &leaves {
                grown.push(*leaf);
            }
            assert_eq!(grown.root(), tree.root());
            let wide = |n: usize| u64::try_from(n).unwrap();
            assert_eq!(grown.size(), wide(size));
            for index in 0..size {
                let mut path = tree.path(index);
                let before = Frontier::before(wide(index), wide(size), &path);
                let mut frontier = before.unwrap();
                for leaf in &leaves[index..] {
                    frontier.push(*leaf);
                }
                assert_eq!(frontier, grown, "{index} of {size}");
                path.push(Digest::ZERO);
                assert_eq!(Frontier::before(wide(index), wide(size), &path), None);
            }
            assert_eq!(Frontier::before(wide(size), wide(size), &[]), None);
        }
        assert_eq!(Frontier::before(0, 0, &[]), None);
        assert_eq!(Frontier::default().root(), Digest::ZERO);
    }

    /// RFC 9162's definition, word for word: split at the largest power of two below the size.
    fn recursive_root(leaves: &[Digest]) -> Digest {
        if leaves.len() == 1 {
            return leaves[0];
        }
        let split = leaves.len().next_power_of_two() / 2;
        node(
            &recursive_root(&leaves[..split]),
            &recursive_root(&leaves[split..]),
        )
    }

    /// Goal: the bottom-up tree is RFC 9162's; by comparing roots with the recursive definition
    /// for every size up to 70.
    #[test]
    fn the_tree_of_rfc_9162() {
        for size in 1..=70 {
            assert_eq!(
                Tree::new(leaves(size)).root(),
                recursive_root(&leaves(size)),
                "{size}"
            );
        }
    }

    /// Goal: every leaf's path leads to the root, and no path leads there from another index, in
    /// a tree of another depth, or shortened; by trying all of them up to size 20.
    #[test]
    fn paths_prove_their_leaf_only() {
        for size in 1..=20_u64 {
            let leaves = leaves(usize::try_from(size).unwrap());
            let tree = Tree::new(leaves.clone());
            for index in 0..size {
                let at = usize::try_from(index).unwrap();
                let path = tree.path(at);
                assert_eq!(
                    root_from_path(leaves[at], index, size, &path),
                    Some(tree.root())
                );
                for other in (0..size + 2).filter(|other| *other != index) {
                    assert_ne!(
                        root_from_path(leaves[at], other, size, &path),
                        Some(tree.root())
                    );
                }
                if let Some((_, shorter)) = path.split_last() {
                    assert_eq!(root_from_path(leaves[at], index, size, shorter), None);
                }
                let mut longer = path;
                longer.push(tree.root());
                assert_eq!(root_from_path(leaves[at], index, size, &longer), None);
            }
        }
    }

    /// Goal: a tree that grew leaf by leaf is the tree made at once, its paths too; by comparing every size
    /// up to 70.
    #[test]
    fn growing_is_the_same_tree() {
        let mut grown = Tree::new(Vec::new());
        for size in 1..=70 {
            grown.push(leaf(&(size - 1_usize).to_be_bytes()));
            assert_eq!(grown, Tree::new(leaves(size)), "{size}");
        }
    }

    /// Goal: a tree shows that it grew from each smaller one of itself, and from no other: not from one with
    /// another root, another size, or by a path that was cut, lengthened or changed; by trying all sizes up
    /// to 20.
    #[test]
    fn growth_is_shown_for_its_own_beginnings_only() {
        for size in 1..=20_usize {
            let tree = Tree::new(leaves(size));
            let second = (u64::try_from(size).unwrap(), tree.root());
            for first in 1..=size {
                let root = Tree::new(leaves(first)).root();
                let small = u64::try_from(first).unwrap();
                let path = tree.consistency(first);
                assert!(has_grown((small, root), second, &path), "{first} {size}");
                let other = Digest::of(b"another history");
                assert!(!has_grown((small, other), second, &path));
                assert!(!has_grown((small, root), (second.0, other), &path));
                assert!(!has_grown((second.0 + 1, root), second, &path));
                for n in (1..size).filter(|n| *n != first) {
                    let n = u64::try_from(n).unwrap();
                    assert!(!has_grown((n, root), second, &path), "{n} {first} {size}");
                }
                if let Some((_, cut)) = path.split_last() {
                    assert!(!has_grown((small, root), second, cut));
                }
                let mut longer = path.clone();
                longer.push(root);
                assert!(!has_grown((small, root), second, &longer));
            }
            assert!(has_grown((0, Digest::ZERO), second, &[]));
        }
    }
}
