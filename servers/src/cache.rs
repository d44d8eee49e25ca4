//! The folder outside the checkout where downloads and build outputs are kept, each under its version.

use std::path::PathBuf;

use crate::error::{Error, Result};

/// `$TALLYMAN_CACHE_DIR`, or `tallyman` in the user's cache folder.
///
/// # Errors
/// [`Error::Missing`] where no variable of the environment leads to one.
pub fn folder() -> Result<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(folder) = set("TALLYMAN_CACHE_DIR") {
        return Ok(folder);
    }
    let user = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")));
    let user = user.ok_or_else(|| Error::Missing("neither TALLYMAN_CACHE_DIR nor HOME is set".to_owned()))?;
    Ok(user.join("tallyman"))
}
