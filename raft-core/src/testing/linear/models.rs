//! Models that are ready for use.

use super::Model;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// One value that is read, written, and written if it is what one believes.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Register<V>(pub V);

/// What is asked of a [`Register`].
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum RegisterOp<V> {
    /// What is the value?
    Read,
    /// Make this the value.
    Write(V),
    /// Make `new` the value if it is `expected`.
    CompareAndSet {
        /// What it must be.
        expected: V,
        /// What it becomes.
        new: V,
    },
}

/// What a [`Register`] answers.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum RegisterReply<V> {
    /// To a read.
    Value(V),
    /// To a write.
    Written,
    /// To a compare-and-set: whether the value was as expected.
    Swapped(bool),
}

impl<V: Clone + Eq + Hash + std::fmt::Debug> Model for Register<V> {
    type Op = RegisterOp<V>;
    type Reply = RegisterReply<V>;

    fn apply(&mut self, op: &Self::Op) -> Self::Reply {
        match op {
            RegisterOp::Read => RegisterReply::Value(self.0.clone()),
            RegisterOp::Write(value) => {
                self.0 = value.clone();
                RegisterReply::Written
            }
            RegisterOp::CompareAndSet { expected, new } => {
                let holds = self.0 == *expected;
                if holds {
                    self.0 = new.clone();
                }
                RegisterReply::Swapped(holds)
            }
        }
    }

    fn is_read(_: &Self::Op, reply: &Self::Reply) -> bool {
        matches!(reply, RegisterReply::Value(_) | RegisterReply::Swapped(false))
    }
}

/// A list that only grows. A clone shares what is in it.
#[derive(Clone, Debug)]
pub struct List<V> {
    last: Option<Arc<Link<V>>>,
    len: usize,
}

#[derive(Debug)]
struct Link<V> {
    value: V,
    before: Option<Arc<Self>>,
}

/// What is asked of a [`List`].
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum ListOp<V> {
    /// Put this at the end.
    Append(V),
    /// What is in it?
    Read,
}

/// What a [`List`] answers.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum ListReply<V> {
    /// To an append.
    Appended,
    /// To a read: all of it, from the first.
    Values(Vec<V>),
}

impl<V> List<V> {
    /// An empty list.
    pub const fn new() -> Self {
        Self { last: None, len: 0 }
    }

    /// The values, the last one first.
    fn backwards(&self) -> impl Iterator<Item = &V> {
        let mut next = self.last.as_deref();
        std::iter::from_fn(move || {
            let link = next?;
            next = link.before.as_deref();
            Some(&link.value)
        })
    }
}

impl<V> Default for List<V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<V: PartialEq> PartialEq for List<V> {
    fn eq(&self, other: &Self) -> bool {
        let shared = match (&self.last, &other.last) {
            (Some(own), Some(other)) => Arc::ptr_eq(own, other),
            (None, None) => true,
            _ => false,
        };
        self.len == other.len && (shared || self.backwards().eq(other.backwards()))
    }
}

impl<V: Eq> Eq for List<V> {}

impl<V: Hash> Hash for List<V> {
    /// Length and last value tell most lists apart, and a long one must not cost more.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.len.hash(state);
        self.backwards().next().hash(state);
    }
}

impl<V> Drop for Link<V> {
    /// Link by link: a long list must not take the stack with it.
    fn drop(&mut self) {
        let mut next = self.before.take();
        while let Some(mut link) = next.and_then(Arc::into_inner) {
            next = link.before.take();
        }
    }
}

impl<V: Clone + Eq + Hash + std::fmt::Debug> Model for List<V> {
    type Op = ListOp<V>;
    type Reply = ListReply<V>;

    fn apply(&mut self, op: &Self::Op) -> Self::Reply {
        match op {
            ListOp::Append(value) => {
                let before = self.last.take();
                self.last = Some(Arc::new(Link { value: value.clone(), before }));
                self.len += 1;
                ListReply::Appended
            }
            ListOp::Read => {
                let mut values: Vec<V> = self.backwards().cloned().collect();
                values.reverse();
                ListReply::Values(values)
            }
        }
    }

    fn may_yet_answer(&self, _: &Self::Op, reply: &Self::Reply) -> bool {
        match reply {
            ListReply::Appended => true,
            // What was appended stays: the list must begin what is read.
            ListReply::Values(values) => {
                values.get(..self.len).is_some_and(|begin| self.backwards().eq(begin.iter().rev()))
            }
        }
    }
}
