//! A copy of the workspace to plant bugs in, with a build folder of its own.

use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The copy. Its files change only where the workspace's did, so that little is built again.
pub(crate) struct Tree {
    pub(crate) root: PathBuf,
    pub(crate) build: PathBuf,
}

impl Tree {
    /// Copies everything of `workspace` that is tracked, or would be.
    pub(crate) fn copy(workspace: &Path, folder: &Path) -> Result<Self, Box<dyn Error>> {
        fs::create_dir_all(folder)?;
        let folder = folder.canonicalize()?;
        let tree = Self { root: folder.join("tree"), build: folder.join("build") };
        let mut list = Command::new("git");
        list.arg("-C").arg(workspace);
        let output =
            list.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).output()?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into());
        }
        let names = String::from_utf8(output.stdout)?;
        let names = names.split('\0').filter(|name| !name.is_empty());
        let names: BTreeSet<&str> = names.filter(|name| workspace.join(name).is_file()).collect();
        for name in &names {
            let (from, to) = (workspace.join(name), tree.root.join(name));
            let bytes = fs::read(&from)?;
            if fs::read(&to).is_ok_and(|known| known == bytes) {
                continue;
            }
            fs::create_dir_all(to.parent().expect("a file lies in a folder"))?;
            fs::write(&to, bytes)?;
        }
        tree.remove_others(&tree.root, &names)?;
        Ok(tree)
    }

    /// Removes what an earlier copy had and the workspace has not.
    fn remove_others(&self, folder: &Path, names: &BTreeSet<&str>) -> Result<(), Box<dyn Error>> {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let name = path.strip_prefix(&self.root)?.to_string_lossy().replace('\\', "/");
            if path.is_dir() {
                self.remove_others(&path, names)?;
            } else if !names.contains(name.as_str()) {
                fs::remove_file(&path)?;
            }
        }
        Ok(())
    }

    /// Applies `patch`, until the returned guard goes.
    pub(crate) fn plant(&self, patch: &Path) -> Result<Planted<'_>, Box<dyn Error>> {
        self.apply(patch, &[])?;
        Ok(Planted { tree: self, patch: patch.into() })
    }

    fn apply(&self, patch: &Path, options: &[&str]) -> Result<(), Box<dyn Error>> {
        let mut apply = Command::new("git");
        apply.current_dir(&self.root).arg("apply").args(options).arg(patch);
        // Should the copy lie in some repository, it is none of that one's business.
        apply.env("GIT_CEILING_DIRECTORIES", self.root.parent().expect("it lies in a folder"));
        let output = apply.output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(format!("{}: {said}", patch.display()).into());
        }
        Ok(())
    }
}

/// A bug is in the tree as long as this is there.
pub(crate) struct Planted<'a> {
    tree: &'a Tree,
    patch: PathBuf,
}

impl Drop for Planted<'_> {
    fn drop(&mut self) {
        // The next copy repairs what cannot be undone here; the next patch fails to apply.
        if let Err(error) = self.tree.apply(&self.patch, &["--reverse"]) {
            eprintln!("{error}");
        }
    }
}
