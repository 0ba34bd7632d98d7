//! What etcd's environment and file say of a node: a layer between our environment and our file.
//! Where the node has an `id`, which etcd's flags do not know, it is not asked for.

use super::{Arg, Config, Origin, Said, Section};
use crate::failure::Failure;
use crate::serve::etcd_flags::{boolean_of, read, variable, words};
use std::path::Path;

/// Every flag of a node that can be said: our own and etcd's, those that mean nothing here too.
pub(super) fn all_options() -> Vec<Arg> {
    let known = words::known();
    let command = Section::Serve.command();
    let options = command.get_arguments().filter(|option| {
        let etcds = |long: &str| known.iter().any(|known| known == long);
        option.get_long().is_some_and(|long| !option.is_hide_set() || etcds(long))
    });
    options.cloned().collect()
}

/// Those of etcd's flags.
fn options() -> Vec<Arg> {
    let known = words::known();
    let etcds = |option: &Arg| {
        option.get_long().is_some_and(|long| known.iter().any(|known| known == long))
    };
    all_options().into_iter().filter(etcds).collect()
}

impl Config {
    /// Takes in what etcd's file says, if one is named, or else its environment.
    ///
    /// # Errors
    /// Of kind `Local` if the file cannot be read, `Usage` if one of them makes no sense.
    pub(crate) fn note_etcd(
        &mut self,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<(), Failure> {
        let said = self.serve();
        if said.iter().any(|said| said.key == "id") {
            return Ok(());
        }
        let named = said.iter().find(|said| said.key == "config-file");
        let named = named.and_then(|said| said.values.first().cloned());
        let named = named.or_else(|| environment(&variable("config-file")).map(Into::into));
        let options = options();
        let found = match named {
            Some(path) => self.of_file(Path::new(&path), &options)?,
            None => of_environment(environment, &options),
        };
        for said in found {
            let option = options.iter().find(|option| option.get_long() == Some(&*said.key));
            option.map_or(Ok(()), |option| said.check(Section::Serve, option))?;
            self.etcd.push((Section::Serve, said));
        }
        Ok(())
    }

    fn of_file(&mut self, path: &Path, options: &[Arg]) -> Result<Vec<Said>, Failure> {
        let mut found = Vec::new();
        for line in read(path)? {
            let origin = Origin::File(path.to_path_buf(), line.line);
            let key = line.key;
            if !options.iter().any(|option| option.get_long() == Some(&*key)) {
                self.unknown.push(format!("{origin}: {key} is no setting"));
                continue;
            }
            let values = line.values.iter().map(|value| boolean_of(&key, value).into()).collect();
            found.push(Said { key, values, origin });
        }
        Ok(found)
    }

    /// Looks among the names of all variables for those of etcd that mean nothing.
    pub(super) fn strangers_of_etcd<'a>(&mut self, names: impl Iterator<Item = &'a String>) {
        let of_environment =
            |(_, said): &(Section, Said)| matches!(said.origin, Origin::Environment(_));
        if !self.etcd.iter().any(of_environment) {
            return;
        }
        let known: Vec<String> = words::known().iter().map(|known| variable(known)).collect();
        let strangers = names.filter(|name| name.starts_with("ETCD_") && !known.contains(name));
        self.strangers.extend(strangers.map(|name| (name.clone(), None)));
    }
}

fn of_environment(environment: impl Fn(&str) -> Option<String>, options: &[Arg]) -> Vec<Said> {
    let said = options.iter().filter_map(|option| {
        let key = option.get_long()?.to_owned();
        let name = variable(&key);
        let values = vec![boolean_of(&key, &environment(&name)?).into()];
        Some(Said { key, values, origin: Origin::Environment(name) })
    });
    said.collect()
}
