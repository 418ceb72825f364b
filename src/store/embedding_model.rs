//! Which model the vectors of this database come from.
//!
//! One model per database: vectors of different models are never compared. While the table is empty, documents are
//! searchable by words only; the first node with a model writes the row, and its vectors are generation 1.

use super::{Client, Error};

/// The model whose vectors are searched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActiveModel {
    /// The number of the set of vectors.
    pub generation: i32,
    /// The model's public name.
    pub name: String,
    /// How token vectors become one.
    pub pooling: String,
    /// Components of a vector.
    pub dimension: i32,
    /// SHA-256 of the weights file.
    pub sha256: Vec<u8>,
}

/// Returns the model that the database has vectors of, or is about to.
///
/// # Errors
/// See [`Error`].
pub async fn active(client: &Client) -> Result<Option<ActiveModel>, Error> {
    let sql =
        "select generation, name, pooling, dimension, sha256 from embedding_model where state = 'active'";
    let row = client.query_opt(sql, &[]).await?;
    Ok(row.map(|row| ActiveModel {
        generation: row.get(0),
        name: row.get(1),
        pooling: row.get(2),
        dimension: row.get(3),
        sha256: row.get(4),
    }))
}

/// Makes `model` the database's model if there is none yet; of several nodes that try, one succeeds.
///
/// # Errors
/// See [`Error`].
pub async fn register(client: &Client, model: &ActiveModel) -> Result<(), Error> {
    let sql = "insert into embedding_model (generation, name, pooling, dimension, sha256, state)
               select $1, $2, $3, $4, $5, 'active' where not exists (select from embedding_model)
               on conflict do nothing";
    let ActiveModel { generation, name, pooling, dimension, sha256 } = model;
    client.execute(sql, &[generation, name, pooling, dimension, sha256]).await?;
    Ok(())
}
