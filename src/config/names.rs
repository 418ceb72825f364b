//! Finds the name that was probably meant.

/// Returns the candidate nearest to `name` by edits, if it is near enough to be a slip of the fingers.
pub(super) fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let (distance, candidate) = candidates.map(|candidate| (edits(name, candidate), candidate)).min()?;
    (distance <= (name.len() / 6).clamp(1, 3)).then_some(candidate)
}

/// Counts the insertions, deletions, replacements and swaps of neighbours between two names.
fn edits(left: &str, right: &str) -> usize {
    let (left, right) = (left.as_bytes(), right.as_bytes());
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=right.len()).collect();
    for row in 1..=left.len() {
        let mut current = vec![row; right.len() + 1];
        for column in 1..=right.len() {
            let replaced = last[column - 1] + usize::from(left[row - 1] != right[column - 1]);
            current[column] = replaced.min(last[column] + 1).min(current[column - 1] + 1);
            let swapped = row > 1
                && column > 1
                && left[row - 1] == right[column - 2]
                && left[row - 2] == right[column - 1];
            if swapped {
                current[column] = current[column].min(before_last[column - 2] + 1);
            }
        }
        before_last = std::mem::replace(&mut last, current);
    }
    last[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_name_and_a_stranger_does_not() {
        let names = ["server.idle_timeout", "server.head_timeout", "listen"];
        let find = |name| nearest(name, names.iter().copied());
        assert_eq!(find("server.idel_timeout"), Some("server.idle_timeout"));
        assert_eq!(find("server.head_time_out"), Some("server.head_timeout"));
        assert_eq!(find("lisen"), Some("listen"));
        assert_eq!(find("web.app_url"), None);
    }
}
