//! Where the values of a manifest come from.

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody gave it.
    Default,
    /// A manifest, and the line.
    File {
        /// The manifest as it was named.
        path: String,
        /// The line, counted from 1.
        line: usize,
    },
    /// An override.
    CommandLine,
    /// As a record of the manifest says.
    Recorded(String),
}

impl std::fmt::Display for Origin {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Origin::Default => formatter.write_str("default"),
            Origin::File { path, line } => write!(formatter, "{path}:{line}"),
            Origin::CommandLine => formatter.write_str("command line"),
            Origin::Recorded(origin) => formatter.write_str(origin),
        }
    }
}
