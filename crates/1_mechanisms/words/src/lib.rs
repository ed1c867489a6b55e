//! Every word a user reads, in English and Spanish, from message catalogues.
//!
//! The catalogues are the Fluent files `en/AREA.ftl` and `es/AREA.ftl` beside this crate's source; all of them are
//! embedded at build time. A fault's sentence stands under its code, its hint under the attribute `.hint`.
//!
//! ```
//! let words = words::Words::for_locale("es_ES.UTF-8");
//! assert_eq!(words.say("yes", &[]), "sí");
//! ```

use std::sync::OnceLock;

use fault::Fault;
use fluent_bundle::{FluentArgs, FluentResource, concurrent::FluentBundle};
use unic_langid::LanguageIdentifier;

/// The value of a variable of a message: `"web".into()`, `3.into()`.
pub use fluent_bundle::FluentValue as Value;

include!(concat!(env!("OUT_DIR"), "/catalogues.rs"));

type Bundle = FluentBundle<FluentResource>;

/// A language that the catalogues are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// English, the language of the source.
    English,
    /// Spanish.
    Spanish,
}

impl Language {
    /// The catalogue language of a locale name such as `es_ES.UTF-8`, `en` or `C`; none when there is no catalogue
    /// for it.
    #[must_use]
    pub fn of_locale(locale: &str) -> Option<Self> {
        let tag = locale.split(['_', '.', '@', '-']).next().unwrap_or_default();
        match tag.to_ascii_lowercase().as_str() {
            "es" => Some(Language::Spanish),
            "en" | "c" | "posix" => Some(Language::English),
            _ => None,
        }
    }

    /// Its code, `en` or `es` (ISO 639-1).
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Language::English => "en",
            Language::Spanish => "es",
        }
    }

    /// The embedded catalogue files: area and text.
    #[must_use]
    pub fn catalogue(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Language::English => EN,
            Language::Spanish => ES,
        }
    }
}

/// The words of one language. What a catalogue lacks is said in English, and what English lacks by its id.
pub struct Words {
    language: Language,
    bundle: OnceLock<Bundle>,
    english: OnceLock<Bundle>,
}

/// A fault in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// What is wrong, one sentence without a full stop at its end.
    pub sentence: String,
    /// What to do.
    pub hint: Option<String>,
    /// The chain of causes, outermost first; whatever the sentence already says is left out.
    pub causes: Vec<String>,
}

impl Words {
    /// The words of one language.
    #[must_use]
    pub fn new(language: Language) -> Self {
        Words {
            language,
            bundle: OnceLock::new(),
            english: OnceLock::new(),
        }
    }

    /// English words.
    #[must_use]
    pub fn english() -> Self {
        Words::new(Language::English)
    }

    /// The words for the value of `LANGUAGE` (`es:en`), `LC_ALL`, `LC_MESSAGES` or `LANG` (`es_ES.UTF-8`): the first
    /// language that has a catalogue, else English.
    #[must_use]
    pub fn for_locale(locale: &str) -> Self {
        let language = locale.split(':').find_map(Language::of_locale);
        Words::new(language.unwrap_or(Language::English))
    }

    /// The words for a process environment, which the caller hands in as a function from a variable's name to its
    /// value; in the order of gettext: `LC_ALL`, `LC_MESSAGES`, `LANG`, and `LANGUAGE` before them unless they say
    /// `C`.
    pub fn for_environment(variable: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let Some(locale) = ["LC_ALL", "LC_MESSAGES", "LANG"].into_iter().find_map(set) else {
            return Words::for_locale(&set("LANGUAGE").unwrap_or_default());
        };
        let plain = matches!(locale.split('.').next(), Some("C" | "POSIX"));
        match set("LANGUAGE") {
            Some(wanted) if !plain => Words::for_locale(&format!("{wanted}:{locale}")),
            _ => Words::for_locale(&locale),
        }
    }

    /// The language spoken.
    #[must_use]
    pub fn language(&self) -> Language {
        self.language
    }

    /// Whether there is a message of this id.
    #[must_use]
    pub fn has(&self, id: &str) -> bool {
        self.bundle().has_message(id) || self.fallback().is_some_and(|bundle| bundle.has_message(id))
    }

    /// The message of this id with its variables; the id itself when no catalogue has it. An id of the form
    /// `message.attribute` names an attribute.
    #[must_use]
    pub fn say(&self, id: &str, args: &[(&str, Value<'_>)]) -> String {
        self.find(id, args).unwrap_or_else(|| id.to_owned())
    }

    /// As [`Words::say`]; none when no catalogue has the id.
    #[must_use]
    pub fn find(&self, id: &str, args: &[(&str, Value<'_>)]) -> Option<String> {
        let mut values = FluentArgs::with_capacity(args.len());
        for (name, value) in args {
            values.set((*name).to_owned(), value.clone());
        }
        format(self.bundle(), id, &values).or_else(|| format(self.fallback()?, id, &values))
    }

    /// The sentence, hint and causes of a fault. A code without a sentence (of a newer daemon) is told by its code
    /// and arguments.
    #[must_use]
    pub fn fault(&self, fault: &Fault) -> Told {
        let args: Vec<(&str, Value<'_>)> = fault
            .args()
            .map(|(name, value)| (name, Value::try_number(value)))
            .collect();
        let sentence = self.find(fault.code(), &args).unwrap_or_else(|| {
            let details: Vec<String> = fault
                .args()
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            self.say("fault-untold", &[("details", details.join(" ").into())])
        });
        let hint = self
            .find(&format!("{}.hint", fault.code()), &args)
            .filter(|hint| !hint.is_empty());
        let mut causes: Vec<String> = Vec::new();
        for cause in fault.causes() {
            let said = sentence.contains(cause.as_str()) || causes.iter().any(|c| c.contains(cause.as_str()));
            if !cause.is_empty() && !said {
                causes.push(cause.clone());
            }
        }
        Told {
            sentence,
            hint,
            causes,
        }
    }

    fn bundle(&self) -> &Bundle {
        self.bundle.get_or_init(|| bundle(self.language))
    }

    fn fallback(&self) -> Option<&Bundle> {
        (self.language != Language::English).then(|| self.english.get_or_init(|| bundle(Language::English)))
    }
}

/// Reads a language's embedded catalogues; a broken message is left out (a test refuses one).
fn bundle(language: Language) -> Bundle {
    let identifier: LanguageIdentifier = language.code().parse().unwrap_or_default();
    let mut bundle = Bundle::new_concurrent(vec![identifier]);
    bundle.set_use_isolating(false);
    for (_, text) in language.catalogue() {
        let resource = match FluentResource::try_new((*text).to_owned()) {
            Ok(resource) | Err((resource, _)) => resource,
        };
        bundle.add_resource_overriding(resource);
    }
    bundle
}

fn format(bundle: &Bundle, id: &str, args: &FluentArgs<'_>) -> Option<String> {
    let (message, attribute) = match id.split_once('.') {
        Some((message, attribute)) => (message, Some(attribute)),
        None => (id, None),
    };
    let message = bundle.get_message(message)?;
    let pattern = match attribute {
        Some(attribute) => message.get_attribute(attribute)?.value(),
        None => message.value()?,
    };
    let mut errors = Vec::new();
    Some(
        bundle
            .format_pattern(pattern, Some(args), &mut errors)
            .into_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_locale_chooses_the_language() {
        for (locale, language) in [
            ("es_ES.UTF-8", Language::Spanish),
            ("es", Language::Spanish),
            ("fr:es:en", Language::Spanish),
            ("C.UTF-8", Language::English),
            ("de_DE.UTF-8", Language::English),
            ("", Language::English),
        ] {
            assert_eq!(Words::for_locale(locale).language(), language, "{locale}");
        }
    }

    #[test]
    fn the_environment_is_read_in_the_order_of_gettext() {
        let of = |pairs: &[(&str, &str)]| {
            let pairs: Vec<(String, String)> = pairs
                .iter()
                .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
                .collect();
            Words::for_environment(|name| pairs.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone()))
                .language()
        };
        assert_eq!(of(&[]), Language::English);
        assert_eq!(of(&[("LANG", "es_ES.UTF-8")]), Language::Spanish);
        assert_eq!(of(&[("LANG", "es_ES.UTF-8"), ("LC_ALL", "C")]), Language::English);
        assert_eq!(of(&[("LANG", "C.UTF-8"), ("LANGUAGE", "es")]), Language::English);
        assert_eq!(
            of(&[("LANG", "en_GB.UTF-8"), ("LANGUAGE", "es:en")]),
            Language::Spanish
        );
    }

    #[test]
    fn a_fault_is_told_with_its_hint_and_new_causes_only() {
        let words = Words::english();
        let fault = Fault::new(fault::Code("NAM001"))
            .arg("name", "Web")
            .because_of("a cause");
        let told = words.fault(&fault);
        assert!(told.sentence.contains("Web"), "{told:?}");
        assert!(told.hint.is_some());
        assert_eq!(told.causes, ["a cause"]);
        let untold = words.fault(&Fault::new(fault::Code("ZZZ999")).arg("port", 8000));
        assert!(untold.sentence.contains("port=8000"));
    }

    #[test]
    fn no_invisible_marks_surround_variables() {
        let told = Words::english().fault(&Fault::new(fault::Code("SIZ001")).arg("text", "4X"));
        assert!(told.sentence.is_ascii(), "{:?}", told.sentence);
    }
}
