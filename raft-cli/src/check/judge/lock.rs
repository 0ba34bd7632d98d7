//! A lock: tokens grow from holder to holder, and once a later holder has it, nothing that is
//! written under an earlier token takes effect. Writes whose outcome nobody knows count as well:
//! reads show which of them took effect, and when.

use super::{Trouble, violation};
use crate::check::history::{Action, Ending, Operation};
use serde_json::Value;
use std::collections::HashMap;

/// An operation under a token.
#[derive(Clone, Copy)]
struct Held<'a> {
    token: u64,
    /// Of the write that was done, or that is seen, if that is known.
    revision: Option<u64>,
    it: Entry<'a>,
    /// The read that has shown a write of which nobody knew.
    shown_by: Option<Entry<'a>>,
}

/// An operation and its position in the history.
type Entry<'a> = (usize, &'a Operation);

/// What is known of one lock.
#[derive(Default)]
struct Known<'a> {
    acquired: Vec<Held<'a>>,
    /// Writes that took effect: they were answered, or a read has shown them.
    written: Vec<Held<'a>>,
    /// What holders have read: the revision is what they saw, the token their own.
    looked: Vec<Held<'a>>,
    /// What anybody has read: the token is that of the write that is seen, 0 if there is none.
    seen: Vec<Held<'a>>,
}

pub(super) fn judge(key: &str, operations: &[Entry<'_>]) -> Result<(), Trouble> {
    let known = Known::of(key, operations)?;
    tokens_grow(key, &known.acquired)?;
    nothing_comes_late(key, &known.acquired, &known.written)?;
    none_between(key, &known)?;
    nothing_is_lost(key, &known)
}

impl<'a> Held<'a> {
    const fn new(token: u64, revision: Option<u64>, it: Entry<'a>) -> Self {
        Self { token, revision, it, shown_by: None }
    }
}

impl<'a> Known<'a> {
    fn of(key: &str, operations: &[Entry<'a>]) -> Result<Self, Trouble> {
        let mut known = Self::default();
        let mut writes: HashMap<&Value, Held<'a>> = HashMap::new();
        let ok = |it: &Entry<'_>| it.1.outcome == Ending::Ok;
        for it in operations {
            match &it.1.action {
                Action::Acquire { token: Some(token) } if ok(it) => {
                    known.acquired.push(Held::new(*token, None, *it));
                }
                Action::Write { value, token: Some(token), revision } => {
                    writes.insert(value, Held::new(*token, *revision, *it));
                }
                _ => {}
            }
        }
        for it in operations.iter().filter(|it| ok(it)) {
            let Action::Read { result, token, revision } = &it.1.action else { continue };
            if let Some(token) = token {
                known.looked.push(Held::new(*token, *revision, *it));
            }
            let token = match result {
                Value::Null => 0,
                value => shown(key, *it, value, *revision, writes.get_mut(value))?,
            };
            known.seen.push(Held::new(token, *revision, *it));
        }
        let took_effect = |write: &Held<'_>| ok(&write.it) || write.shown_by.is_some();
        known.written = writes.into_values().filter(took_effect).collect();
        known.written.sort_by_key(|write| write.it.0);
        Ok(known)
    }
}

/// A read has shown a value: its write took effect, at this revision. The token of that.
fn shown<'a>(
    key: &str,
    read: Entry<'a>,
    value: &Value,
    revision: Option<u64>,
    write: Option<&mut Held<'a>>,
) -> Result<u64, Trouble> {
    let Some(write) = write else {
        return Err(violation(key, format!("{value} was read and never written"), read, &[]));
    };
    if write.it.1.outcome == Ending::Failed {
        let what = format!("{value} was read, though its write was answered: not done");
        return Err(violation(key, what, read, &[write.it]));
    }
    match (write.revision, revision) {
        (Some(made), Some(seen)) if made != seen => {
            let what = format!("{value} was read at revision {seen} and written at {made}");
            return Err(violation(key, what, read, &[write.it]));
        }
        (made, seen) => write.revision = made.or(seen),
    }
    if write.it.1.outcome == Ending::Unknown {
        write.shown_by.get_or_insert(read);
    }
    Ok(write.token)
}

/// Who asked when another one had the answer already has the greater token.
fn tokens_grow(key: &str, acquired: &[Held<'_>]) -> Result<(), Trouble> {
    let mut by_token = acquired.to_vec();
    by_token.sort_by_key(|held| (held.token, held.it.0));
    let mut pairs = by_token.windows(2);
    let same = pairs.find(|pair| matches!(pair, [one, other] if one.token == other.token));
    if let Some([one, other]) = same {
        let what = format!("two holders have the token {}", one.token);
        return Err(violation(key, what, other.it, &[one.it]));
    }
    let Some((later, earlier)) = overtaken(acquired, acquired, token) else { return Ok(()) };
    let what =
        format!("token {} was handed out after {}, which is greater", later.token, earlier.token);
    Err(violation(key, what, later.it, &[earlier.it]))
}

/// A write that was asked when a later holder had the lock already has no effect.
fn nothing_comes_late(
    key: &str,
    acquired: &[Held<'_>],
    written: &[Held<'_>],
) -> Result<(), Trouble> {
    let Some((late, holder)) = overtaken(acquired, written, token) else { return Ok(()) };
    let what = format!(
        "a write under token {} was taken after another client held token {}",
        late.token, holder.token
    );
    let own = acquired.iter().find(|held| held.token == late.token);
    let others = own.into_iter().chain([&holder]).map(|held| held.it).chain(late.shown_by);
    Err(violation(key, what, late.it, &others.collect::<Vec<_>>()))
}

const fn token(held: &Held<'_>) -> u64 {
    held.token
}

/// The first of `later` that was asked after one of `earlier` was answered whose number is greater,
/// and the greatest of those.
fn overtaken<'a>(
    earlier: &[Held<'a>],
    later: &[Held<'a>],
    number: impl Fn(&Held<'a>) -> u64,
) -> Option<(Held<'a>, Held<'a>)> {
    let mut by_end = earlier.to_vec();
    by_end.sort_by_key(|held| held.it.1.end);
    let mut by_start = later.to_vec();
    by_start.sort_by_key(|held| held.it.1.start);
    let mut ended = by_end.into_iter().peekable();
    let mut greatest: Option<Held<'a>> = None;
    for held in by_start {
        while let Some(next) = ended.next_if(|next| next.it.1.end < held.it.1.start) {
            if greatest.is_none_or(|greatest| number(&next) > number(&greatest)) {
                greatest = Some(next);
            }
        }
        if let Some(greatest) = greatest.filter(|greatest| number(greatest) > number(&held)) {
            return Some((held, greatest));
        }
    }
    None
}

/// In the order in which writes took effect, tokens never go back: not behind that of an earlier
/// write, nor behind that of a holder who has read what there was before.
fn none_between(key: &str, known: &Known<'_>) -> Result<(), Trouble> {
    let written = known.written.iter().map(|write| (false, *write));
    let looked = known.looked.iter().map(|read| (true, *read));
    let mut in_order: Vec<(bool, Held<'_>)> = written.chain(looked).collect();
    in_order.retain(|(_, held)| held.revision.is_some());
    in_order.sort_by_key(|(looked, held)| (held.revision, *looked, held.token));
    let mut greatest: Option<Held<'_>> = None;
    for (looked, held) in in_order {
        let Some(before) = greatest.filter(|greatest| greatest.token > held.token) else {
            greatest = Some(held);
            continue;
        };
        // A holder that lost the lock meanwhile may look at what others do.
        if !looked {
            let had = match before.it.1.action {
                Action::Read { .. } => "read",
                _ => "written",
            };
            let what = format!(
                "a write under token {} took effect after the holder of {} had {had}: two holders \
                 at once",
                held.token, before.token
            );
            let others = [Some(before.it), before.shown_by, held.shown_by];
            let others: Vec<_> = others.into_iter().flatten().collect();
            return Err(violation(key, what, held.it, &others));
        }
    }
    Ok(())
}

/// A read shows no write that was replaced before it was asked: neither by a write that was
/// answered, nor by one that an earlier read has shown.
fn nothing_is_lost(key: &str, known: &Known<'_>) -> Result<(), Trouble> {
    let answered = known.written.iter().filter(|write| write.it.1.outcome == Ending::Ok);
    let earlier: Vec<Held<'_>> = answered.chain(&known.seen).copied().collect();
    // What is not known of revisions is known of tokens.
    let replaced = overtaken(&earlier, &known.seen, token).or_else(|| {
        let revision = |held: &Held<'_>| held.revision.unwrap_or_default();
        overtaken(&dated(&earlier), &dated(&known.seen), revision)
    });
    let Some((read, replaced)) = replaced else { return Ok(()) };
    let what = match replaced.it.1.action {
        Action::Read { .. } => "a read went back behind what an earlier one has shown",
        _ => "a write that was acknowledged before this read is not seen by it",
    };
    Err(violation(key, what, read.it, &[replaced.it]))
}

/// Those whose revision is known.
fn dated<'a>(of: &[Held<'a>]) -> Vec<Held<'a>> {
    of.iter().filter(|held| held.revision.is_some()).copied().collect()
}
