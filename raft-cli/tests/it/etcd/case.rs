//! A case: words for `etcdctl`, and whether this store and etcd have to agree.

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    /// Apart by spaces; what is between single quotes is one word.
    pub(super) words: &'static str,
    /// What is on its standard input.
    pub(super) input: &'static str,
    /// Why the answers differ, should they have to.
    pub(super) differs: Option<&'static str>,
}

/// What has to come out alike.
pub(super) const fn same(words: &'static str) -> Case {
    Case { words, input: "", differs: None }
}

impl Case {
    /// With something on its standard input.
    pub(super) const fn input(self, input: &'static str) -> Self {
        Self { input, ..self }
    }

    /// What comes out differs by design, which is said in docs/etcd.md.
    pub(super) const fn differs(self, why: &'static str) -> Self {
        Self { differs: Some(why), ..self }
    }
}

/// Words, as a shell would part them.
pub(super) fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (number, part) in text.split('\'').enumerate() {
        if number % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(ToOwned::to_owned));
        }
    }
    words
}

#[test]
fn quotes_make_one_word_of_several() {
    assert_eq!(words("put 'a b' '' c"), ["put", "a b", "", "c"]);
}
