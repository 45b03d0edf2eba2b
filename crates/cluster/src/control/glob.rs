//! Names by a pattern: `*`, `?`, `[abc]`, `[!a-c]`, as shells and Python's `fnmatch` have them.

/// Whether a name fits a pattern. Its time is at most the product of their lengths, whatever a stranger sends.
pub(super) fn fits(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut at, mut done) = (0, 0);
    // Behind the last star, and how much of the name it has taken.
    let mut star = None;
    while done < name.len() {
        if pattern.get(at) == Some(&'*') {
            at += 1;
            star = Some((at, done));
        } else if let Some(next) = one(&pattern, at, name[done]) {
            (at, done) = (next, done + 1);
        } else if let Some((behind, taken)) = star {
            star = Some((behind, taken + 1));
            (at, done) = (behind, taken + 1);
        } else {
            return false;
        }
    }
    pattern[at..].iter().all(|rest| *rest == '*')
}

/// Where the pattern goes on if its piece at `at` fits one character.
fn one(pattern: &[char], at: usize, character: char) -> Option<usize> {
    match *pattern.get(at)? {
        '?' => Some(at + 1),
        '[' => match end_of_set(pattern, at) {
            Some(end) => set_has(&pattern[at + 1..end], character).then_some(end + 1),
            None => (character == '[').then_some(at + 1),
        },
        literal => (literal == character).then_some(at + 1),
    }
}

/// Where the bracket is that ends a set; one right at its beginning is an element.
fn end_of_set(pattern: &[char], at: usize) -> Option<usize> {
    let first = at + 1 + usize::from(pattern.get(at + 1) == Some(&'!'));
    (first + 1..pattern.len()).find(|end| pattern[*end] == ']')
}

fn set_has(set: &[char], character: char) -> bool {
    let is_negative = set[0] == '!';
    let mut rest = &set[usize::from(is_negative)..];
    let mut is_in = false;
    while let Some(first) = rest.first() {
        let (last, length) = if rest.len() > 2 && rest[1] == '-' { (rest[2], 3) } else { (*first, 1) };
        is_in |= (*first..=last).contains(&character);
        rest = &rest[length..];
    }
    is_in != is_negative
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn patterns_fit_as_in_shells() {
        let fitting = [
            ("*", ""),
            ("w@*", "w@golden"),
            ("w?@host", "w1@host"),
            ("*@host", "mh-7@a@host"),
            ("w[1-3]@h", "w2@h"),
            ("w[!1-3x]@h", "w4@h"),
            ("a*b*c", "a-b-b-c"),
            ("[]]", "]"),
            ("[x", "[x"),
        ];
        for (pattern, name) in fitting {
            assert!(fits(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("", "w"),
            ("w@*", "v@w@x"),
            ("w?", "w"),
            ("w[1-3]", "w4"),
            ("w[!1-3]", "w2"),
            ("a*b", "a-c"),
            ("w", "W"),
        ] {
            assert!(!fits(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn stars_without_end_end() {
        let pattern = "*a".repeat(200);
        assert!(!fits(&pattern, &"a".repeat(199)));
        assert!(fits(&pattern, &"a".repeat(4000)));
    }
}
