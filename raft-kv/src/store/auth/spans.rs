//! Ranges of keys, put together: sorted, apart from each other.

use crate::api::{Keys, span_of};
use bytes::Bytes;

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Spans(Vec<(Bytes, Option<Bytes>)>);

impl Spans {
    pub(super) fn of<'a>(keys: impl Iterator<Item = &'a Keys>) -> Self {
        let mut all: Vec<_> = keys.filter_map(span_of).collect();
        all.sort_unstable_by(|one, other| one.0.cmp(&other.0));
        let mut merged: Vec<(Bytes, Option<Bytes>)> = Vec::new();
        for (start, end) in all {
            match merged.last_mut() {
                Some((_, None)) => break,
                Some((_, Some(last))) if start <= *last => match end {
                    Some(end) if end > *last => *last = end,
                    Some(_) => {}
                    None => merged.last_mut().expect("it is there").1 = None,
                },
                _ => merged.push((start, end)),
            }
        }
        Self(merged)
    }

    /// Up to where, from `at` on, everything is in it: `None` if not even `at` is, and within that
    /// `None` if there is no end.
    pub(super) fn reach(&self, at: &[u8]) -> Option<Option<&Bytes>> {
        let after = self.0.partition_point(|(start, _)| start[..] <= *at);
        let (_, end) = self.0.get(after.checked_sub(1)?)?;
        end.as_ref().is_none_or(|end| at < &end[..]).then_some(end.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: &'static str, end: Option<&'static str>) -> Keys {
        Keys::Range { start: start.into(), end: end.map(Into::into) }
    }

    #[test]
    fn ranges_that_touch_are_one() {
        let keys = [
            range("c", Some("e")),
            range("a", Some("c")),
            Keys::One("x".into()),
            range("b", Some("d")),
            range("z", Some("y")),
        ];
        let spans = Spans::of(keys.iter());
        assert_eq!(spans.0.len(), 2);
        let reach = |at: &str| spans.reach(at.as_bytes()).map(|end| end.cloned());
        assert_eq!(reach("a"), Some(Some("e".into())));
        assert_eq!(reach("dd"), Some(Some("e".into())));
        assert_eq!((reach("A"), reach("e"), reach("y"), reach("xa")), (None, None, None, None));
        assert_eq!(reach("x"), Some(Some("x\0".into())));
        let open = Spans::of([range("b", None), range("a", Some("b")), range("q", None)].iter());
        assert_eq!(open.reach(b"a"), Some(None));
        assert_eq!(Spans::of([Keys::all()].iter()).reach(b"\0"), Some(None));
    }
}
