//! A map of nodes for the handful that a cluster has: a sorted vector, which is faster at this size
//! than a tree.

use crate::types::NodeId;

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct ByNode<T>(Vec<(NodeId, T)>);

impl<T> ByNode<T> {
    pub(super) const fn new() -> Self {
        Self(Vec::new())
    }

    #[inline]
    pub(super) fn get(&self, node: NodeId) -> Option<&T> {
        let position = self.position(node).ok()?;
        Some(&self.0[position].1)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, node: NodeId) -> Option<&mut T> {
        let position = self.position(node).ok()?;
        Some(&mut self.0[position].1)
    }

    /// What is kept of `node`, after putting `make`'s there if that is nothing.
    #[inline]
    pub(super) fn get_or_insert_with(&mut self, node: NodeId, make: impl FnOnce() -> T) -> &mut T {
        let position = self.position(node);
        if let Err(position) = position {
            self.0.insert(position, (node, make()));
        }
        let (Ok(position) | Err(position)) = position;
        &mut self.0[position].1
    }

    pub(super) fn remove(&mut self, node: NodeId) {
        if let Ok(position) = self.position(node) {
            self.0.remove(position);
        }
    }

    pub(super) fn retain(&mut self, mut keeps: impl FnMut(NodeId, &mut T) -> bool) {
        self.0.retain_mut(|(node, value)| keeps(*node, value));
    }

    /// In order of the nodes.
    pub(super) fn iter(&self) -> impl Iterator<Item = (NodeId, &T)> {
        self.0.iter().map(|(node, value)| (*node, value))
    }

    /// In order of the nodes.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (NodeId, &mut T)> {
        self.0.iter_mut().map(|(node, value)| (*node, value))
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &T> {
        self.iter().map(|(_, value)| value)
    }

    #[inline]
    fn position(&self, node: NodeId) -> Result<usize, usize> {
        self.0.binary_search_by_key(&node, |(other, _)| *other)
    }
}

impl<T> Default for ByNode<T> {
    fn default() -> Self {
        Self::new()
    }
}
