//! Arguments, subcommands and the table of exit codes.
