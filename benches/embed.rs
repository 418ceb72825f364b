//! Our side of `benches/embed.sh`: embeds texts when told to and says how long it took.
//!
//! `embed MODEL THREADS`, then on standard input one line of JSON `{"passages": […], "questions": […]}` and commands,
//! one a line, each answered with one number: `passages` embeds all passages at once (seconds), `questions` each
//! question alone (median, milliseconds), `memory` the process's resident memory (MiB).
#![expect(clippy::print_stdout, reason = "it answers its parent there")]

use std::error::Error;
use std::io::{BufRead, stdin};
use std::path::Path;
use std::time::Instant;

use agent::rag::embed::Embedder;
use serde::Deserialize;

#[derive(Deserialize)]
struct Texts {
    passages: Vec<String>,
    questions: Vec<String>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let [model, threads] = arguments.as_slice() else { return Err("usage: embed MODEL THREADS".into()) };
    let embedder = Embedder::load(Path::new(model), threads.parse()?)?;
    let mut lines = stdin().lock().lines();
    let texts: Texts = serde_json::from_str(&lines.next().ok_or("no texts")??)?;
    for command in lines {
        let answer = match command?.as_str() {
            "passages" => passages(&embedder, &texts.passages),
            "questions" => questions(&embedder, &texts.questions),
            "memory" => memory_mib()?,
            other => return Err(format!("unknown command {other}").into()),
        };
        println!("{answer}");
    }
    Ok(())
}

fn passages(embedder: &Embedder, texts: &[String]) -> f64 {
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let began = Instant::now();
    embedder.embed_blocking(&texts);
    began.elapsed().as_secs_f64()
}

fn questions(embedder: &Embedder, texts: &[String]) -> f64 {
    let mut times: Vec<f64> = Vec::with_capacity(texts.len());
    for text in texts {
        let began = Instant::now();
        embedder.embed_blocking(&[text]);
        times.push(began.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn memory_mib() -> Result<f64, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
}
