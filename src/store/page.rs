//! Which stretch of a list a statement returns.

use uuid::Uuid;

/// Rows `offset .. offset + limit` of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Rows at most.
    pub limit: i64,
    /// Rows to leave out first.
    pub offset: i64,
}

/// Rows after (or, backwards, before) one with a known id. The statement returns up to `limit + 1`, so that the caller
/// sees whether there are more; backwards, it returns the nearest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CursorWindow {
    /// Rows that the caller shows.
    pub limit: i64,
    /// The id that the stretch starts beyond; `None` starts at the list's beginning.
    pub position: Option<Uuid>,
    /// Whether the rows before `position` are wanted.
    pub backwards: bool,
}
