//! What a build without the cargo feature `parquet` says.

use crate::{
    failure::{CommandError, Result},
    output::table::Table,
};

/// What every file says of who wrote it.
pub const MARK: &str = "meta export";

/// That this build writes no Parquet.
///
/// # Errors
/// Always.
pub fn check() -> Result<()> {
    Err(CommandError::Usage(
        "--to parquet: not in this build; build with `--features parquet`, or use --to csv"
            .to_owned(),
    ))
}

/// No file.
///
/// # Errors
/// As [`check`].
pub fn bytes(_: &Table) -> Result<Vec<u8>> {
    check().map(|()| Vec::new())
}
