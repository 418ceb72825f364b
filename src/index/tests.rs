//! Behaviour of the whole index: what a search finds after which changes.

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::store::ids::ChunkId;

const DIMENSION: usize = 8;

fn collection(id: u128) -> CollectionId {
    CollectionId(Uuid::from_u128(id))
}

fn document(id: u128) -> DocumentId {
    DocumentId(Uuid::from_u128(id))
}

fn index() -> Index {
    Index::new(Limits { dimension: DIMENSION, chunks_max: 10_000 })
}

/// Vectors in a half circle: 0 is nearest to 0, and the cosine falls with the distance of the numbers.
fn vector(angle: u128) -> Vec<f32> {
    let angle = f32::from(u16::try_from(angle).unwrap()) / 400.0;
    let mut vector = vec![0.0; DIMENSION];
    (vector[0], vector[1]) = (angle.cos(), angle.sin());
    vector
}

/// A document of one chunk; chunk, document and angle have the same number.
fn entry(of: u128, id: u128, version: i32, text: &str) -> DocumentEntry {
    let chunk =
        ChunkEntry { id: ChunkId(Uuid::from_u128(id)), text: text.to_owned(), vector: Some(vector(id)) };
    DocumentEntry { collection: collection(of), document: document(id), version, chunks: vec![chunk] }
}

fn readable(collections: &[u128]) -> ReadAccess {
    ReadAccess::for_tests(collections.iter().copied().map(collection).collect())
}

fn by_vector(vector: &[f32], k: usize) -> Query<'_> {
    Query { text: None, vector: Some(vector), k, documents: None, mode: Mode::Vector }
}

fn by_text(text: &str, k: usize) -> Query<'_> {
    Query { text: Some(text), vector: None, k, documents: None, mode: Mode::Text }
}

fn found(index: &Index, collections: &[u128], query: &Query<'_>) -> Vec<u128> {
    let hits = index.search(&readable(collections), query).unwrap();
    hits.iter().map(|hit| hit.chunk.0.as_u128()).collect()
}

#[test]
fn only_readable_collections_are_searched() {
    let index = index();
    index.put(entry(1, 10, 1, "river")).unwrap();
    index.put(entry(2, 11, 1, "river")).unwrap();
    assert_eq!(found(&index, &[1], &by_vector(&vector(10), 5)), [10]);
    assert_eq!(found(&index, &[2, 2], &by_text("river", 5)), [11]);
    assert_eq!(found(&index, &[], &by_text("river", 5)), [0; 0]);
    index.remove_all(&[document(10)]);
    assert_eq!(found(&index, &[1, 2], &by_text("river", 5)), [11]);
    assert_eq!(index.stats().documents, 1);
}

#[test]
fn the_higher_version_wins_in_any_order() {
    let index = index();
    index.put(entry(1, 10, 2, "new")).unwrap();
    index.put(entry(1, 10, 1, "old")).unwrap();
    index.put(entry(1, 10, 2, "again")).unwrap();
    assert_eq!(found(&index, &[1], &by_text("new", 5)), [10]);
    index.remove(document(10), Some(1));
    index.put(entry(1, 10, 3, "newest")).unwrap();
    assert_eq!(found(&index, &[1], &by_text("new", 5)), [0; 0]);
    assert_eq!(found(&index, &[1], &by_text("newest", 5)), [10]);
    index.remove(document(10), Some(3));
    assert_eq!(found(&index, &[1], &by_vector(&vector(10), 5)), [0; 0]);
}

#[test]
fn a_rebuild_takes_any_version_and_drops_the_rest() {
    let index = index();
    index.put(entry(1, 10, 7, "before")).unwrap();
    index.put(entry(1, 11, 1, "gone")).unwrap();
    assert!(index.put_all(vec![entry(2, 10, 3, "after")], Versions::Any).is_empty());
    index.retain(&HashSet::from([document(10)]));
    assert_eq!(found(&index, &[1, 2], &by_text("before gone after", 5)), [10]);
    assert_eq!(found(&index, &[1], &by_vector(&vector(0), 5)), [0; 0]);
    assert_eq!((index.stats().documents, index.stats().chunks), (1, 1));
}

#[test]
fn unusable_entries_are_refused_and_the_old_version_stays() {
    let index = Index::new(Limits { dimension: DIMENSION, chunks_max: 1 });
    index.put(entry(1, 10, 1, "kept")).unwrap();
    let mut bad = entry(1, 10, 2, "bad");
    for (vector, error) in [
        (vec![f32::NAN; DIMENSION], Error::NotFinite),
        (vec![0.0; DIMENSION], Error::ZeroVector),
        (vec![1.0; DIMENSION + 1], Error::Dimension { expected: DIMENSION, found: DIMENSION + 1 }),
    ] {
        bad.chunks[0].vector = Some(vector);
        assert_eq!(index.put(bad.clone()), Err(error));
    }
    assert_eq!(index.put(entry(1, 11, 1, "more")), Err(Error::Full { chunks_max: 1 }));
    assert_eq!(index.put(entry(1, 10, 2, "kept again")), Ok(()));
    assert_eq!(found(&index, &[1], &by_text("kept", 5)), [10]);
}

#[test]
fn unusable_queries_are_refused() {
    let index = index();
    let search = |query: &Query<'_>| index.search(&readable(&[1]), query);
    assert_eq!(search(&by_text("a", 0)), Err(Error::K(0)));
    assert!(search(&by_text("a", 1)).is_ok());
    assert!(search(&by_text("a", K_MAX)).is_ok());
    assert_eq!(search(&by_text("a", K_MAX + 1)), Err(Error::K(K_MAX + 1)));
    assert_eq!(search(&by_vector(&[0.0; DIMENSION], 1)), Err(Error::ZeroVector));
    assert_eq!(search(&Query { mode: Mode::Vector, ..by_text("a", 1) }), Err(Error::Missing("vector")));
    assert!(search(&Query { mode: Mode::Text, ..by_vector(&vector(0), 1) }).is_err());
    assert_eq!(
        search(&Query { text: None, mode: Mode::Fusion, ..by_text("a", 1) }).unwrap_err(),
        Error::Missing("text or vector")
    );
}

#[test]
fn a_filter_returns_all_matches_up_to_k() {
    let index = index();
    for id in 0..300 {
        index.put(entry(1, id, 1, "common")).unwrap();
    }
    index.remove(document(250), None);
    let wanted: Vec<DocumentId> = [250, 299, 3, 3, 7_000, 120].map(document).to_vec();
    for (query, expected) in [
        (by_vector(&vector(0), 10), vec![3, 120, 299]),
        (by_vector(&vector(0), 2), vec![3, 120]),
        (by_text("common", 10), vec![3, 120, 299]),
    ] {
        assert_eq!(found(&index, &[1], &Query { documents: Some(&wanted), ..query }), expected);
    }
}

#[test]
fn equal_vectors_come_in_the_order_of_their_ids() {
    let index = index();
    for id in (0..600).rev() {
        let mut same = entry(1, id, 1, "same");
        same.chunks[0].vector = Some(vector(7));
        index.put(same).unwrap();
    }
    index.remove(document(1), None);
    for query in [by_vector(&vector(9), 4), by_text("same", 4)] {
        assert_eq!(found(&index, &[1], &query), [0, 2, 3, 4]);
    }
}

#[test]
fn fusion_prefers_what_both_lists_have() {
    let index = index();
    index.put(entry(1, 10, 1, "river bank")).unwrap();
    index.put(entry(1, 11, 1, "a long walk along the river in the evening")).unwrap();
    index.put(entry(1, 12, 1, "money")).unwrap();
    let mut text_only = entry(1, 13, 1, "river river river");
    text_only.chunks[0].vector = None;
    index.put(text_only).unwrap();
    let vector = vector(12);
    let query =
        Query { text: Some("river"), vector: Some(&vector), k: 10, documents: None, mode: Mode::Fusion };
    let hits = index.search(&readable(&[1]), &query).unwrap();
    let ranks: Vec<_> =
        hits.iter().map(|hit| (hit.chunk.0.as_u128(), hit.vector_rank, hit.text_rank)).collect();
    assert_eq!(
        ranks,
        [(10, Some(3), Some(2)), (11, Some(2), Some(3)), (12, Some(1), None), (13, None, Some(1))]
    );
    assert_eq!(hits[0].score, 1.0 / 63.0 + 1.0 / 62.0);
    assert_eq!((hits[2].cosine, hits[3].cosine), (Some(1.0), None));
}

#[test]
fn text_scores_do_not_depend_on_the_history_or_on_the_partition() {
    let texts = ["red apple", "green apple tree", "red red wine", "the tree of life", "apple"];
    let fresh = index();
    let churned = index();
    for (id, text) in (0..).zip(texts) {
        fresh.put(entry(1, id, 9, text)).unwrap();
        churned
            .put(entry(id % 2 + 1, id, 1, "apple of an older version, much longer than the new one"))
            .unwrap();
        churned.put(entry(3, id + 100, 1, "apple red tree")).unwrap();
    }
    for (id, text) in (0..).zip(texts).collect::<Vec<_>>().into_iter().rev() {
        churned.put(entry(id % 2 + 1, id, 9, text)).unwrap();
    }
    let query = by_text("red apple tree", 10);
    let expected = fresh.search(&readable(&[1]), &query).unwrap();
    assert_eq!(churned.search(&readable(&[2, 1]), &query).unwrap(), expected);
    assert_eq!(expected.len(), 5);
}

#[test]
fn churn_does_not_grow_the_index() {
    let index = index();
    let text = "some words that every version has";
    for id in 0..200 {
        index.put(entry(1, id, 1, text)).unwrap();
    }
    let fresh = index.stats();
    for version in 2..12 {
        for id in 0..200 {
            index.put(entry(1, id, version, text)).unwrap();
        }
    }
    let churned = index.stats();
    assert_eq!((churned.documents, churned.chunks), (fresh.documents, fresh.chunks));
    assert!(churned.bytes * 10 <= fresh.bytes * 13, "{} after {}", churned.bytes, fresh.bytes);
}

#[test]
fn searches_and_changes_run_side_by_side() {
    let index = index();
    index.put(entry(1, 0, 1, "anchor")).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for id in 1..500 {
                index.put(entry(1, id, 1, "other")).unwrap();
                index.remove(document(id - 1).min(document(id)), Some(0));
            }
        });
        for _ in 0..500 {
            assert_eq!(found(&index, &[1], &by_vector(&vector(0), 1)), [0]);
            assert_eq!(found(&index, &[1], &by_text("anchor", 1)), [0]);
        }
    });
}

#[derive(Debug, Clone)]
enum Change {
    Put { id: u128, version: i32 },
    Remove { id: u128 },
}

fn change() -> impl Strategy<Value = Change> {
    let id = 0..40_u128;
    prop_oneof![
        4 => (id.clone(), 1..5).prop_map(|(id, version)| Change::Put { id, version }),
        1 => id.prop_map(|id| Change::Remove { id }),
    ]
}

proptest! {
    #[test]
    fn any_history_leaves_the_highest_versions_searchable(changes in prop::collection::vec(change(), 1..200), k in 1..50_usize) {
        let index = index();
        let mut model = std::collections::BTreeMap::new();
        for change in changes {
            match change {
                Change::Put { id, version } => {
                    index.put(entry(1, id, version, &format!("v{version}"))).unwrap();
                    let held = model.entry(id).or_insert(version);
                    *held = version.max(*held);
                }
                Change::Remove { id } => {
                    index.remove(document(id), None);
                    model.remove(&id);
                }
            }
        }
        let nearest: Vec<u128> = model.keys().copied().take(k).collect();
        prop_assert_eq!(found(&index, &[1], &by_vector(&vector(0), k)), nearest);
        for version in 1..5 {
            let having: Vec<u128> = model.iter().filter(|held| *held.1 == version).map(|held| *held.0).take(k).collect();
            prop_assert_eq!(found(&index, &[1], &by_text(&format!("v{version}"), k)), having);
        }
        prop_assert_eq!(index.stats().documents, model.len());
    }
}

#[test]
fn collections_without_passages_leave_nothing_behind() {
    let index = index();
    index.put_all((0..50).map(|id| entry(id, id, 1, "river")).collect(), Versions::Higher);
    assert_eq!(index.partitions.load().len(), 50);
    index.remove_all(&(0..49).map(document).collect::<Vec<_>>());
    assert_eq!(index.partitions.load().len(), 1);
    assert_eq!(found(&index, &[3, 49], &by_text("river", 5)), [49]);
}

#[test]
fn nobody_waits_for_a_writer_to_learn_a_version() {
    let index = index();
    index.put(entry(1, 10, 2, "river")).unwrap();
    let writer = index.writer();
    assert_eq!(index.version(document(10)), None);
    drop(writer);
    assert_eq!(index.version(document(10)), Some(2));
}

#[test]
fn a_panic_of_a_writer_is_mended_by_taking_any_version_again() {
    let index = index();
    index.put(entry(1, 10, 1, "river")).unwrap();
    let panicked = std::thread::scope(|scope| {
        let writing = || {
            let mut writer = index.writer();
            // Noted, and then never put into a segment.
            let held = Held { collection: collection(1), version: 2, chunks: 1 };
            writer.documents.insert(document(10), held);
            panic!("on purpose");
        };
        scope.spawn(writing).join().is_err()
    });
    assert!(panicked);
    index.put_all(vec![entry(1, 10, 2, "valley")], Versions::Any);
    assert_eq!(found(&index, &[1], &by_text("river valley", 5)), [10]);
    assert_eq!((index.version(document(10)), index.stats().chunks), (Some(2), 1));
}

#[test]
fn a_search_by_words_counts_the_passages_that_it_goes_through() {
    let index = index();
    let mut words_only = entry(1, 10, 1, "river");
    words_only.chunks[0].vector = None;
    index.put(words_only).unwrap();
    index.put(entry(2, 11, 1, "river")).unwrap();
    assert_eq!((index.rows(&readable(&[1])), index.rows(&readable(&[1, 2]))), (1, 2));
}
