//! Our side of `benches/search.sh`: searches vectors when told to and says how long it took.
//!
//! `search DATA`, where DATA has `base.f32` and `queries.f32` of `benches/data.rs`; then on standard input commands, one a
//! line, each answered with one line of JSON: `whole` searches with each query in one collection of all vectors,
//! `parts` in one of collections of 2,000 (both: mean milliseconds a query), `hits` gives the rows found in the whole,
//! `bytes` the index's memory per vector.
#![expect(clippy::print_stdout, reason = "it answers its parent there")]

use std::error::Error;
use std::io::{BufRead, stdin};
use std::path::Path;
use std::time::Instant;

use agent::index::{ChunkEntry, DocumentEntry, Index, K_MAX, Limits, Mode, Query, Versions};
use agent::store::access::ReadAccess;
use agent::store::ids::{ChunkId, CollectionId, DocumentId};
use uuid::Uuid;

const DIMENSION: usize = 384;
/// Hits asked for.
const K: usize = 10;
const _: () = assert!(K <= K_MAX);
/// Vectors in a small collection: a user's, in the API bench.
const PART: usize = 2_000;

type Vectors = Vec<Vec<f32>>;

fn main() -> Result<(), Box<dyn Error>> {
    let data = std::env::args().skip(1).find(|argument| argument != "--bench").ok_or("usage: search DATA")?;
    let data = Path::new(&data);
    let (base, queries) = (read(&data.join("base.f32"))?, read(&data.join("queries.f32"))?);
    let whole = build(&base, base.len());
    let parts = build(&base, PART);
    let stats = whole.stats();
    for command in stdin().lock().lines() {
        match command?.as_str() {
            "whole" => println!("{}", milliseconds(&whole, &queries, 1)?),
            "parts" => println!("{}", milliseconds(&parts, &queries, base.len() / PART)?),
            "hits" => println!("{}", serde_json::to_string(&hits(&whole, &queries)?)?),
            "bytes" => println!("{}", stats.bytes / stats.vectors),
            other => return Err(format!("unknown command {other}").into()),
        }
    }
    Ok(())
}

/// Reads rows of little-endian f32.
fn read(path: &Path) -> Result<Vectors, Box<dyn Error>> {
    let bytes = std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let numbers: Vec<f32> = bytes.as_chunks().0.iter().map(|number| f32::from_le_bytes(*number)).collect();
    Ok(numbers.chunks_exact(DIMENSION).map(<[f32]>::to_vec).collect())
}

/// Puts the vectors into collections of `part` rows. A chunk's id is its row, a collection's its number.
fn build(base: &Vectors, part: usize) -> Index {
    let index = Index::new(Limits { dimension: DIMENSION, ..Limits::default() });
    let entry = |(row, vector): (usize, &Vec<f32>)| {
        let id = Uuid::from_u128(row as u128);
        let chunk = ChunkEntry { id: ChunkId(id), text: String::new(), vector: Some(vector.clone()) };
        let collection = CollectionId(Uuid::from_u128((row / part) as u128));
        DocumentEntry { collection, document: DocumentId(id), version: 1, chunks: vec![chunk] }
    };
    let refused = index.put_all(base.iter().enumerate().map(entry).collect(), Versions::Higher);
    assert!(refused.is_empty(), "the vectors are of the model's dimension and finite");
    index
}

/// Searches with each query in one of `collections` collections, in turn. Returns the mean time.
fn milliseconds(index: &Index, queries: &Vectors, collections: usize) -> Result<f64, Box<dyn Error>> {
    let accesses: Vec<ReadAccess> = (0..collections).map(access).collect();
    let began = Instant::now();
    for (query, access) in queries.iter().zip(accesses.iter().cycle()) {
        index.search(access, &by_vector(query))?;
    }
    Ok(began.elapsed().as_secs_f64() * 1e3 / queries.len() as f64)
}

fn hits(index: &Index, queries: &Vectors) -> Result<Vec<Vec<u128>>, Box<dyn Error>> {
    let mut rows = Vec::with_capacity(queries.len());
    for query in queries {
        let found = index.search(&access(0), &by_vector(query))?;
        rows.push(found.iter().map(|hit| hit.chunk.0.as_u128()).collect());
    }
    Ok(rows)
}

fn by_vector(vector: &[f32]) -> Query<'_> {
    Query { text: None, vector: Some(vector), k: K, documents: None, mode: Mode::Vector }
}

fn access(collection: usize) -> ReadAccess {
    ReadAccess::for_tests(vec![CollectionId(Uuid::from_u128(collection as u128))])
}
