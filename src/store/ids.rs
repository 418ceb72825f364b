//! Ids are `UUIDv7` in the database and on the wire; in the code each kind is its own type.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! id {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
        #[serde(transparent)]
        #[schema(value_type = Uuid)]
        pub struct $name(pub Uuid);

        impl $name {
            /// Makes a new id that sorts after the ones this process made before.
            #[expect(clippy::new_without_default, reason = "a default id would be a random one")]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )+};
}

id! {
    /// A user account.
    UserId,
    /// A collection: the unit of sharing and of the index.
    CollectionId,
    /// A document.
    DocumentId,
    /// A passage of one version of a document.
    ChunkId,
    /// A chat.
    ChatId,
    /// A message of a chat, question or answer.
    MessageId,
    /// An API token.
    TokenId,
}
