//! Makes the vectors that the other benches search: every gloss of WordNet, embedded.
//!
//! `cargo bench --bench data -- MODEL TARGET [WORDNET]` writes, row for row, `base.f32` and `glosses.txt` with
//! 116,659 rows and `queries.f32` and `queries.txt` with 1,000 rows held out at even distances. Vectors are
//! little-endian f32 without a header. Started by `benches/data.sh`; about five minutes on two cores.
#![expect(clippy::print_stdout, reason = "a tool that reports to its terminal and may stop there")]

use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use agent::rag::embed::Embedder;

/// Rows that become queries.
const QUERIES: usize = 1000;
/// Texts embedded between two lines of progress.
const STEP: usize = 4096;
/// Debian's `wordnet-base` puts its data here.
const WORDNET: &str = "/usr/share/wordnet";

fn main() -> Result<(), Box<dyn Error>> {
    let mut paths = std::env::args_os().skip(1).filter(|argument| argument != "--bench").map(PathBuf::from);
    let (Some(model), Some(target)) = (paths.next(), paths.next()) else {
        return Err("usage: cargo bench --bench data -- MODEL TARGET [WORDNET]".into());
    };
    let glosses = read_glosses(&paths.next().unwrap_or_else(|| WORDNET.into()))?;
    let threads = std::thread::available_parallelism()?.get();
    let embedder = Embedder::load(&model, threads)?;
    std::fs::create_dir_all(&target)?;
    let held_out: Vec<usize> =
        (0..QUERIES).map(|query| (2 * query + 1) * glosses.len() / (2 * QUERIES)).collect();
    let is_query = |row: &usize| held_out.binary_search(row).is_ok();
    let (queries, base): (Vec<usize>, Vec<usize>) = (0..glosses.len()).partition(is_query);
    for (rows, vectors, texts) in [(queries, "queries.f32", "queries.txt"), (base, "base.f32", "glosses.txt")]
    {
        let rows: Vec<&str> = rows.into_iter().map(|row| glosses[row].as_str()).collect();
        write_texts(&target.join(texts), &rows)?;
        write_vectors(&target.join(vectors), &embedder, &rows)?;
    }
    Ok(())
}

/// Returns the glosses in the files' order; a data line is `fields | gloss`, the licence's lines begin with a space.
fn read_glosses(wordnet: &Path) -> Result<Vec<String>, Box<dyn Error>> {
    let mut glosses = Vec::new();
    for part in ["noun", "verb", "adj", "adv"] {
        let path = wordnet.join(format!("data.{part}"));
        let lines = std::fs::read_to_string(&path)
            .map_err(|e| format!("cannot read {}: {e}; install wordnet-base", path.display()))?;
        let data = lines.lines().filter(|line| !line.starts_with(' '));
        glosses
            .extend(data.filter_map(|line| line.split_once('|')).map(|(_, gloss)| gloss.trim().to_owned()));
    }
    Ok(glosses)
}

fn write_texts(path: &Path, rows: &[&str]) -> Result<(), Box<dyn Error>> {
    let mut file = BufWriter::new(File::create(path)?);
    for row in rows {
        writeln!(file, "{row}")?;
    }
    Ok(file.flush()?)
}

/// Writes to a neighbour and renames, so that a file that is there is whole.
fn write_vectors(path: &Path, embedder: &Embedder, rows: &[&str]) -> Result<(), Box<dyn Error>> {
    let partial = path.with_extension("partial");
    let mut file = BufWriter::new(File::create(&partial)?);
    for (step, rows_of_step) in rows.chunks(STEP).enumerate() {
        for vector in embedder.embed_blocking(rows_of_step) {
            file.write_all(&vector.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>())?;
        }
        println!("{}: {} of {}", path.display(), step * STEP + rows_of_step.len(), rows.len());
    }
    file.flush()?;
    Ok(std::fs::rename(&partial, path)?)
}
