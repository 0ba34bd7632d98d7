//! Parsers of single argument values. Each error says what would have been right.

use raft_core::types::{ClusterId, NodeId};
use raft_kv::service::Compaction;
use std::time::Duration;

/// A node id, `3` or `n3`.
pub fn node(text: &str) -> Result<NodeId, String> {
    match text.strip_prefix('n').unwrap_or(text).parse() {
        Ok(id) if id > 0 => Ok(NodeId(id)),
        _ => Err("a node id is a whole number from 1, as in `3` or `n3`".into()),
    }
}

/// A member, `3=host:port`.
pub fn member(text: &str) -> Result<(NodeId, String), String> {
    let (id, address) = text.split_once('=').ok_or("a member is written N=HOST:PORT")?;
    Ok((node(id)?, self::address(address)?))
}

/// An address, `host:port`.
pub fn address(text: &str) -> Result<String, String> {
    let port = text.rsplit_once(':').filter(|(host, _)| !host.is_empty());
    match port.map(|(_, port)| port.parse::<u16>()) {
        Some(Ok(_)) => Ok(text.into()),
        _ => Err("an address is written HOST:PORT, as in `127.0.0.1:2380`".into()),
    }
}

/// A cluster id, 1 to 16 hexadecimal digits.
pub fn cluster(text: &str) -> Result<ClusterId, String> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let parsed = u64::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with('+'));
    parsed.map(ClusterId).ok_or_else(|| "a cluster id is 1 to 16 hexadecimal digits".into())
}

/// A length of time above zero, `250ms` or `1m 30s`.
pub fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        Ok(_) => Err("must be above zero".into()),
        Err(error) => Err(format!("{error}; write it as `250ms`, `5s` or `1m 30s`")),
    }
}

/// A length of time above zero, in milliseconds where there is no unit, as in etcd's flags.
pub fn interval(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(0) => Err("must be above zero".into()),
        Ok(milliseconds) => Ok(Duration::from_millis(milliseconds)),
        Err(_) => duration(text),
    }
}

/// A number of bytes, `64MiB`, `500kB` or `4096`.
pub fn size(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim_start() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        _ => return Err(SIZE_FORM.into()),
    };
    let number: u64 = number.parse().map_err(|_| SIZE_FORM)?;
    number.checked_mul(factor).ok_or_else(|| "there are no so many bytes".into())
}

/// What a leader compacts by itself: `off`, `revisions:10000` or `periodic:1h`.
pub fn compaction(text: &str) -> Result<Compaction, String> {
    let form = "write `off`, `revisions:N` or `periodic:TIME`, as in `periodic:1h`";
    match text.split_once([':', ' ', '=']) {
        None if text == "off" => Ok(Compaction::Off),
        Some(("revisions", kept)) => match kept.trim().parse() {
            Ok(kept) if kept > 0 => Ok(Compaction::Revisions(kept)),
            _ => Err(format!("{kept:?} is no number of revisions; {form}")),
        },
        Some(("periodic", period)) => duration(period.trim()).map(Compaction::Periodic),
        _ => Err(form.into()),
    }
}

const SIZE_FORM: &str = "a size is a whole number and B, KiB, MiB, GiB, TiB, kB, MB, GB or TB, as \
                         in `64MiB`";
