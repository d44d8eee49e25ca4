//! Counter names and deltas made from a row: templates, and what they mean for a given header. Pure.

use std::str::FromStr;

use csv::StringRecord;

/// `TEMPLATE[=DELTA]` as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CounterArgument {
    text: String,
    parts: Vec<Part<String>>,
    delta: Option<String>,
}

/// A part of a template. `C` names a column, or is its place.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part<C> {
    Literal(String),
    Column(C),
}

/// What each row adds to one counter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    parts: Vec<Part<usize>>,
    delta: Delta,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Delta {
    Constant(i64),
    Column { index: usize, name: String },
}

impl FromStr for CounterArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        // Where the last `=` stands: how many parts and how much of the literal come before it.
        let mut delta_at = None;
        let mut rest = text.char_indices().peekable();
        while let Some((at, letter)) = rest.next() {
            let doubled = rest.peek().is_some_and(|(_, next)| *next == letter);
            match letter {
                '{' | '}' if doubled => {
                    rest.next();
                    literal.push(letter);
                }
                '{' => {
                    let mut column = String::new();
                    loop {
                        match rest.next() {
                            Some((_, '}')) => break,
                            Some((_, letter)) => column.push(letter),
                            None => return Err(format!("the {{ at character {} is never closed", at + 1)),
                        }
                    }
                    if !literal.is_empty() {
                        parts.push(Part::Literal(std::mem::take(&mut literal)));
                    }
                    parts.push(Part::Column(column));
                }
                '}' => return Err(format!("the }} at character {} was never opened; write }}}} for a brace", at + 1)),
                '=' => {
                    delta_at = Some((at, parts.len(), literal.len()));
                    literal.push(letter);
                }
                letter => literal.push(letter),
            }
        }
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        let mut delta = None;
        if let Some((at, whole_parts, literal_length)) = delta_at {
            delta = Some(text[at + 1..].to_owned());
            parts.truncate(whole_parts + 1);
            if let Some(Part::Literal(literal)) = parts.get_mut(whole_parts) {
                literal.truncate(literal_length);
            }
            parts.retain(|part| !matches!(part, Part::Literal(literal) if literal.is_empty()));
        }
        if parts.is_empty() {
            return Err("has no counter name".to_owned());
        }
        Ok(Self { text: text.to_owned(), parts, delta })
    }
}

impl CounterArgument {
    /// As written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What it means for a file with this header.
    ///
    /// # Errors
    /// When it names a column that the file does not have.
    pub fn bind(&self, default_delta: &str, header: &StringRecord) -> Result<Target, String> {
        let column = |name: &str| header.iter().position(|column| column == name);
        let columns = || header.iter().collect::<Vec<_>>().join(", ");
        let bind = |part: &Part<String>| match part {
            Part::Literal(literal) => Ok(Part::Literal(literal.clone())),
            Part::Column(name) => column(name).map(Part::Column).ok_or_else(|| {
                format!("--counter '{}': there is no column {name:?}; the columns are: {}", self.text, columns())
            }),
        };
        let parts = self.parts.iter().map(bind).collect::<Result<_, _>>()?;
        let delta = self.delta.as_deref().unwrap_or(default_delta);
        let delta = match (column(delta), delta.parse()) {
            (Some(index), _) => Delta::Column { index, name: delta.to_owned() },
            (None, Ok(constant)) => Delta::Constant(constant),
            (None, Err(_)) => {
                return Err(format!(
                    "--counter '{}': the delta {delta:?} is neither a column nor a signed 64-bit integer; the columns are: {}",
                    self.text,
                    columns()
                ));
            }
        };
        Ok(Target { parts, delta })
    }
}

impl Target {
    /// The counter's name and what to add, for a row.
    ///
    /// # Errors
    /// When the delta is no integer.
    pub fn add(&self, row: &StringRecord) -> Result<(String, i64), String> {
        let cell = |index: usize| row.get(index).unwrap_or_default();
        let name = self.parts.iter().map(|part| match part {
            Part::Literal(literal) => literal.as_str(),
            Part::Column(index) => cell(*index),
        });
        let delta = match &self.delta {
            Delta::Constant(constant) => *constant,
            Delta::Column { index, name } => cell(*index)
                .trim()
                .parse()
                .map_err(|_| format!("column {name:?} is {:?}; it must be a signed 64-bit integer", cell(*index)))?,
        };
        Ok((name.collect(), delta))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(argument: &str, default_delta: &str) -> Result<(String, i64), String> {
        let header = StringRecord::from(vec!["origin", "miles", "a=b"]);
        let row = StringRecord::from(vec!["SFO", " -7", "x"]);
        argument.parse::<CounterArgument>()?.bind(default_delta, &header)?.add(&row)
    }

    #[test]
    fn placeholders_are_columns_and_the_rest_is_taken_as_it_is() {
        assert_eq!(add("origin/{origin}", "1"), Ok(("origin/SFO".to_owned(), 1)));
        assert_eq!(add("{origin}{miles}/é", "-3"), Ok(("SFO -7/é".to_owned(), -3)));
        assert_eq!(add("{{{origin}}}", "1"), Ok(("{SFO}".to_owned(), 1)));
        assert_eq!(add("total", "miles"), Ok(("total".to_owned(), -7)));
    }

    #[test]
    fn what_follows_the_last_equals_sign_is_the_delta() {
        assert_eq!(add("m/{origin}=miles", "1"), Ok(("m/SFO".to_owned(), -7)));
        assert_eq!(add("{origin}=5", "1"), Ok(("SFO".to_owned(), 5)));
        assert_eq!(add("a=b=2", "1"), Ok(("a=b".to_owned(), 2)));
        assert_eq!(add("{a=b}", "1"), Ok(("x".to_owned(), 1)));
        assert_eq!(add("a={origin}=2", "1"), Ok(("a=SFO".to_owned(), 2)));
    }

    #[test]
    fn what_cannot_be_a_counter_says_why() {
        for (argument, why) in [
            ("", "no counter name"),
            ("=miles", "no counter name"),
            ("a{origin", "character 2 is never closed"),
            ("a}b", "never opened"),
            ("{destination}", "no column \"destination\"; the columns are: origin, miles, a=b"),
            ("a=kilometres", "neither a column nor"),
            ("a=origin", "\"SFO\"; it must be a signed 64-bit integer"),
            ("a=9223372036854775808", "neither a column nor"),
        ] {
            let error = add(argument, "1").unwrap_err();
            assert!(error.contains(why), "{argument}: {error}");
        }
    }
}
