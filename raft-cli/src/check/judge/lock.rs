//! A lock: tokens grow from holder to holder, and once a later holder has it, nothing that is
//! written under an earlier token is taken.

use super::{Numbered, Trouble, violation};
use crate::check::history::{Action, Ending, Operation};

/// An operation that was done under a token.
#[derive(Clone, Copy)]
struct Held<'a> {
    token: u64,
    /// Of a write, if the store told.
    revision: Option<u64>,
    it: (usize, &'a Operation),
}

pub(super) fn judge(key: &str, operations: &Numbered<'_>) -> Result<(), Trouble> {
    let (mut acquired, mut written) = (Vec::new(), Vec::new());
    for (at, operation) in operations {
        if operation.outcome != Ending::Ok {
            continue;
        }
        let it = (*at, *operation);
        match operation.action {
            Action::Acquire { token: Some(token) } => {
                acquired.push(Held { token, revision: None, it });
            }
            Action::Write { token: Some(token), revision, .. } => {
                written.push(Held { token, revision, it });
            }
            _ => {}
        }
    }
    tokens_grow(key, &acquired)?;
    nothing_comes_late(key, &acquired, &written)?;
    none_between(key, &written)
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
    // The greatest token of those that were answered before the next one was asked.
    greatest_before(acquired, acquired, |later, earlier| {
        let what = format!(
            "token {} was handed out after {}, which is greater",
            later.token, earlier.token
        );
        violation(key, what, later.it, &[earlier.it])
    })
}

/// A write that was asked when a later holder had the lock already is refused.
fn nothing_comes_late(
    key: &str,
    acquired: &[Held<'_>],
    written: &[Held<'_>],
) -> Result<(), Trouble> {
    greatest_before(acquired, written, |late, holder| {
        let what = format!(
            "a write under token {} was taken after another client held token {}",
            late.token, holder.token
        );
        let own = acquired.iter().find(|held| held.token == late.token);
        let others: Vec<_> = own.into_iter().chain([holder]).map(|held| held.it).collect();
        violation(key, what, late.it, &others)
    })
}

/// Tells of the first of `later` that was asked after one of `earlier` with a greater token was
/// answered.
fn greatest_before<'a>(
    earlier: &[Held<'a>],
    later: &[Held<'a>],
    wrong: impl Fn(&Held<'a>, &Held<'a>) -> Trouble,
) -> Result<(), Trouble> {
    let mut by_end = earlier.to_vec();
    by_end.sort_by_key(|held| held.it.1.end);
    let mut by_start = later.to_vec();
    by_start.sort_by_key(|held| held.it.1.start);
    let mut ended = by_end.into_iter().peekable();
    let mut greatest: Option<Held<'a>> = None;
    for held in &by_start {
        while let Some(next) = ended.next_if(|next| next.it.1.end < held.it.1.start) {
            if greatest.is_none_or(|greatest| next.token > greatest.token) {
                greatest = Some(next);
            }
        }
        if let Some(greatest) = &greatest
            && greatest.token > held.token
        {
            return Err(wrong(held, greatest));
        }
    }
    Ok(())
}

/// In the order in which writes took effect, tokens never go back.
fn none_between(key: &str, written: &[Held<'_>]) -> Result<(), Trouble> {
    let mut in_order: Vec<&Held<'_>> =
        written.iter().filter(|held| held.revision.is_some()).collect();
    in_order.sort_by_key(|held| held.revision);
    let mut pairs = in_order.windows(2);
    let back = pairs.find(|pair| matches!(pair, [one, next] if next.token < one.token));
    let Some([one, next]) = back else { return Ok(()) };
    let what = format!(
        "a write under token {} took effect after one under token {}: two holders at once",
        next.token, one.token
    );
    Err(violation(key, what, next.it, &[one.it]))
}
