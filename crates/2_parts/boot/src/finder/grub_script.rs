//! The words and commands of a GRUB script (GRUB manual, "Writing full configuration files directly").

use std::collections::HashMap;

/// A command with its words, still with variables in them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Command {
    pub(super) words: Vec<Word>,
    /// For one that ends with `{`: the number of the command that is its `}`.
    pub(super) block: Option<usize>,
}

/// A word: pieces of text and variables, which are put together when the command runs.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Word(Vec<Piece>);

#[derive(Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Variable { name: String, quoted: bool },
}

impl Word {
    /// The word when it is plain text: the name of a command.
    pub(super) fn literal(&self) -> &str {
        match self.0.as_slice() {
            [Piece::Text(text)] => text,
            _ => "",
        }
    }

    /// Appends what the word becomes: unquoted variables are split at blanks and may be nothing at all.
    fn expand(&self, variables: &HashMap<String, String>, words: &mut Vec<String>) {
        let mut now = None::<String>;
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => now.get_or_insert_default().push_str(text),
                Piece::Variable { name, quoted } => {
                    let value = value(variables, name);
                    if *quoted {
                        now.get_or_insert_default().push_str(value);
                        continue;
                    }
                    let mut parts = value.split_whitespace().peekable();
                    while let Some(part) = parts.next() {
                        now.get_or_insert_default().push_str(part);
                        if parts.peek().is_some() {
                            words.extend(now.take());
                        }
                    }
                }
            }
        }
        words.extend(now);
    }
}

/// The value of a variable; GRUB has all the features that scripts ask for.
fn value<'a>(variables: &'a HashMap<String, String>, name: &str) -> &'a str {
    match variables.get(name) {
        Some(value) => value,
        None if name.starts_with("feature_") => "y",
        None => "",
    }
}

/// The words that a command has when it runs, at most this many bytes in all.
pub(super) fn expand(words: &[Word], variables: &HashMap<String, String>) -> Vec<String> {
    const MOST: usize = 64 << 10;
    let mut expanded = Vec::new();
    for word in words {
        word.expand(variables, &mut expanded);
        if expanded.iter().map(String::len).sum::<usize>() > MOST {
            break;
        }
    }
    expanded
}

/// Splits a script into its commands.
pub(super) fn parse(text: &str) -> Vec<Command> {
    let mut parser = Parser {
        rest: text.chars().peekable(),
        commands: Vec::new(),
        now: Command::default(),
        open: Vec::new(),
    };
    parser.run();
    parser.commands
}

struct Parser<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
    commands: Vec<Command>,
    now: Command,
    /// Commands whose block is not closed yet.
    open: Vec<usize>,
}

impl Parser<'_> {
    fn run(&mut self) {
        while let Some(next) = self.rest.peek().copied() {
            match next {
                '\n' | ';' => {
                    self.rest.next();
                    self.end();
                }
                next if next.is_whitespace() => drop(self.rest.next()),
                '#' => while self.rest.next_if(|next| *next != '\n').is_some() {},
                '{' => {
                    self.rest.next();
                    self.open.push(self.commands.len());
                    self.commands.push(std::mem::take(&mut self.now));
                }
                '}' => {
                    self.rest.next();
                    self.end();
                    let here = self.commands.len();
                    if let Some(command) = self.open.pop().and_then(|open| self.commands.get_mut(open)) {
                        command.block = Some(here);
                    }
                    let word = Word(vec![Piece::Text("}".to_owned())]);
                    self.commands.push(Command {
                        words: vec![word],
                        block: None,
                    });
                }
                _ => {
                    let word = self.word();
                    self.now.words.push(word);
                }
            }
        }
        self.end();
        // A block that nobody closes ends with the script.
        let end = self.commands.len();
        for open in self.open.drain(..) {
            self.commands[open].block = Some(end);
        }
    }

    fn end(&mut self) {
        if !self.now.words.is_empty() {
            self.commands.push(std::mem::take(&mut self.now));
        }
    }

    fn word(&mut self) -> Word {
        let mut pieces = vec![];
        let mut text = String::new();
        let mut plain = false;
        while let Some(next) = self
            .rest
            .next_if(|next| !next.is_whitespace() && !matches!(next, ';' | '{' | '}'))
        {
            match next {
                '\'' => {
                    plain = true;
                    while let Some(inside) = self.rest.next().filter(|next| *next != '\'') {
                        text.push(inside);
                    }
                }
                '"' => {
                    plain = true;
                    self.double(&mut pieces, &mut text);
                }
                '\\' => match self.rest.next() {
                    Some('\n') | None => {}
                    Some(escaped) => text.push(escaped),
                },
                '$' => self.variable(false, &mut pieces, &mut text),
                other => text.push(other),
            }
        }
        if !text.is_empty() || plain && pieces.is_empty() {
            pieces.push(Piece::Text(text));
        }
        Word(pieces)
    }

    /// What stands between double quotes.
    fn double(&mut self, pieces: &mut Vec<Piece>, text: &mut String) {
        while let Some(next) = self.rest.next() {
            match next {
                '"' => return,
                '$' => self.variable(true, pieces, text),
                '\\' => match self.rest.next_if(|next| matches!(next, '$' | '"' | '\\' | '\n')) {
                    Some('\n') => {}
                    Some(escaped) => text.push(escaped),
                    None => text.push('\\'),
                },
                other => text.push(other),
            }
        }
    }

    /// A variable behind its dollar sign, which stands for itself before anything else.
    fn variable(&mut self, quoted: bool, pieces: &mut Vec<Piece>, text: &mut String) {
        let mut name = String::new();
        if self.rest.next_if_eq(&'{').is_some() {
            while let Some(next) = self.rest.next().filter(|next| *next != '}') {
                name.push(next);
            }
        } else if let Some(special) = self.rest.next_if(|next| matches!(next, '?' | '@' | '*' | '#')) {
            name.push(special);
        } else {
            while let Some(next) = self
                .rest
                .next_if(|next| next.is_ascii_alphanumeric() || *next == '_')
            {
                name.push(next);
            }
        }
        if name.is_empty() {
            text.push('$');
            return;
        }
        if !text.is_empty() {
            pieces.push(Piece::Text(std::mem::take(text)));
        }
        pieces.push(Piece::Variable { name, quoted });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(text: &str) -> Vec<Vec<String>> {
        let variables = HashMap::from([
            ("a".to_owned(), "x  y".to_owned()),
            ("e".to_owned(), String::new()),
        ]);
        let commands = parse(text);
        commands
            .iter()
            .map(|command| expand(&command.words, &variables))
            .collect()
    }

    #[test]
    fn words_are_split_and_quoted_as_grub_does() {
        assert_eq!(
            words("set a=1; b c # d\n  e"),
            [vec!["set", "a=1"], vec!["b", "c"], vec!["e"]]
        );
        assert_eq!(
            words("p '$a \\' \"$a\" $a ${e} \"$e\""),
            [["p", "$a \\", "x  y", "x", "y", ""]]
        );
        assert_eq!(
            words("a\\ b \"c\\\"d\\q\" e\\\nf 1$a'2'"),
            [["a b", "c\"d\\q", "ef", "1x", "y2"]]
        );
        assert_eq!(
            words("[ x$feature_any = xy ] $"),
            [["[", "xy", "=", "xy", "]", "$"]]
        );
    }

    #[test]
    fn blocks_know_their_ends() {
        let commands = parse("menuentry 'a' { linux /v\n submenu b { c } }\nd");
        let blocks: Vec<_> = commands.iter().map(|command| command.block).collect();
        assert_eq!(blocks, [Some(5), None, Some(4), None, None, None, None]);
        assert_eq!(parse("a { b")[0].block, Some(2));
        assert_eq!(commands[6].words[0].literal(), "d");
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "[a$\"'\\\\{};# \n=]{0,50}") {
            let _ = words(&text);
        }
    }
}
