//! Alarms that somebody raises, and clears.

use super::call::unexpected;
use super::{Client, ClientError};
use crate::api::{Action, ActionReply, AlarmChange};

impl Client {
    /// Raises or clears an alarm, exactly once; whether it was not so before. Where users count it
    /// needs the role root.
    ///
    /// # Errors
    /// See [`ClientError`]; [`KvError::TooManyAlarms`](crate::api::KvError::TooManyAlarms). As long
    /// as some member is of a version that knows no alarms, nothing is done.
    pub async fn change_alarm(&self, change: AlarmChange) -> Result<bool, ClientError> {
        match self.unfenced().write(&Action::Alarm(change)).await? {
            ActionReply::Alarm(changed) => Ok(changed),
            _ => Err(unexpected(true)),
        }
    }
}
