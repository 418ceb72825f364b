//! Who is asking and what they may touch, as types that only this folder can make.
//!
//! A [`Caller`] comes from a session or token that was just checked in the database; [`ReadAccess`] and
//! [`WriteAccess`] come from the membership table. Every store and index call that reaches a user's data takes one of
//! them, so an endpoint that forgets the check does not compile.

use super::ids::{CollectionId, UserId};

/// A user whose session or token was checked in this request.
#[derive(Clone, Debug)]
pub struct Caller {
    user: UserId,
    username: String,
    staff: bool,
}

impl Caller {
    pub(in crate::store) fn new(user: UserId, username: String, staff: bool) -> Self {
        Self { user, username, staff }
    }

    /// The user's id.
    pub fn user(&self) -> UserId {
        self.user
    }

    /// The user's name as they typed it when registering.
    pub fn username(&self) -> &str {
        &self.username
    }

    /// Whether the user administers the service.
    pub fn is_staff(&self) -> bool {
        self.staff
    }
}

/// The collections that one request may read, as the membership table had them when it was made.
#[derive(Clone, Debug)]
pub struct ReadAccess {
    user: UserId,
    collections: Vec<CollectionId>,
}

impl ReadAccess {
    pub(in crate::store) fn new(user: UserId, collections: Vec<CollectionId>) -> Self {
        Self { user, collections }
    }

    /// The user on whose behalf is read; hydration checks membership again for them.
    pub fn user(&self) -> UserId {
        self.user
    }

    /// The readable collections, without order.
    pub fn collections(&self) -> &[CollectionId] {
        &self.collections
    }

    /// Returns the same access narrowed to `wanted`; collections the user may not read drop out silently.
    #[must_use]
    pub fn narrowed(&self, wanted: &[CollectionId]) -> Self {
        let collections = self.collections.iter().copied().filter(|id| wanted.contains(id)).collect();
        Self { user: self.user, collections }
    }

    /// An access for tests and benches of the index, which have no database to ask.
    #[cfg(any(test, feature = "bench"))]
    pub fn for_tests(collections: Vec<CollectionId>) -> Self {
        Self::new(UserId::new(), collections)
    }
}

/// One collection that the caller may change (role editor or owner).
#[derive(Clone, Copy, Debug)]
pub struct WriteAccess {
    user: UserId,
    collection: CollectionId,
}

impl WriteAccess {
    pub(in crate::store) fn new(user: UserId, collection: CollectionId) -> Self {
        Self { user, collection }
    }

    /// The user who changes it.
    pub fn user(&self) -> UserId {
        self.user
    }

    /// The collection that may be changed.
    pub fn collection(&self) -> CollectionId {
        self.collection
    }
}
