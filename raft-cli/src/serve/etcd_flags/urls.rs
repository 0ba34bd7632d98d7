//! URLs as etcd's flags have them: a scheme, a host and a port.

use std::fmt;

/// What is spoken at a URL.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scheme {
    /// In the open.
    Http,
    /// Over TLS.
    Https,
}

/// `http://host:port` or `https://host:port`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Url {
    /// What is spoken there.
    pub scheme: Scheme,
    /// The host, in brackets if it is an IPv6 address.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Url {
    /// A URL of HTTP in the open.
    pub fn http(host: &str, port: u16) -> Self {
        Self { scheme: Scheme::Http, host: host.to_owned(), port }
    }

    /// Reads one.
    ///
    /// # Errors
    /// What would have been right.
    pub fn parse(text: &str) -> Result<Self, String> {
        let form = || format!("{text:?}: a URL is written http://HOST:PORT or https://HOST:PORT");
        let (scheme, rest) = text.trim().split_once("://").ok_or_else(form)?;
        let scheme = match scheme {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            "unix" | "unixs" => {
                return Err(format!("{text:?}: sockets of the file system are not served"));
            }
            _ => return Err(form()),
        };
        let address = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = address.rsplit_once(':').ok_or_else(form)?;
        let bracketed = host.starts_with('[') && host.ends_with(']');
        let bare = host.contains([':', '/', '?', '#', '@', ' ', '[', ']']);
        if host.is_empty() || (bare && !bracketed) {
            return Err(form());
        }
        let port = port.parse().map_err(|_| form())?;
        Ok(Self { scheme, host: host.to_owned(), port })
    }

    /// `host:port`.
    pub fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        };
        write!(f, "{scheme}://{}:{}", self.host, self.port)
    }
}

/// A member of `--initial-cluster`: `name=http://host:port`.
///
/// # Errors
/// What would have been right.
pub(super) fn member(text: &str) -> Result<(String, Url), String> {
    match text.trim().split_once('=') {
        Some((name, url)) if !name.is_empty() => Ok((name.to_owned(), Url::parse(url)?)),
        _ => Err(format!("{text:?}: a member is written NAME=http://HOST:PORT")),
    }
}
