//! The Merkle tree over a transaction's headers, as RFC 9162 (section 2.1) defines it.

use crate::hash::{Digest, LEAF, NODE};

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
}

/// The hash of a leaf with these bytes.
#[must_use]
pub fn leaf(bytes: &[u8]) -> Digest {
    Digest::of_parts(&[&[LEAF], bytes])
}

/// The root that `path` leads to from the leaf at `index` of a tree of `size` leaves; `None` when
/// the path has the wrong length (RFC 9162, section 2.1.3.2).
#[must_use]
pub fn root_from_path(leaf: Digest, index: u32, size: u32, path: &[Digest]) -> Option<Digest> {
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

fn node(left: &Digest, right: &Digest) -> Digest {
    Digest::of_parts(&[&[NODE], left.as_bytes(), right.as_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(count: usize) -> Vec<Digest> {
        (0..count).map(|n| leaf(&n.to_be_bytes())).collect()
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
        for size in 1..=20_u32 {
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
}
