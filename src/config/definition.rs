//! What one setting is, and the macro that makes its table row, its typed field and its parsing from one entry.

use super::resolve::Reader;

/// One setting, as `agent check`, the documentation test and the environment see it.
#[derive(Debug)]
pub struct Definition {
    /// Path in a settings file, for example `server.idle_timeout`.
    pub key: &'static str,
    /// What a value looks like, for example `duration with a unit, such as 75s`.
    pub rule: &'static str,
    /// Smallest and largest accepted value, in the setting's own unit.
    pub range: Option<(&'static str, &'static str)>,
    /// What holds where nothing is set.
    pub default: DefaultValue,
    /// Whether the value is never shown.
    pub secret: bool,
    /// One or two sentences for the person who sets it.
    pub help: &'static str,
}

/// What a setting is where no source gives it.
#[derive(Debug)]
pub enum DefaultValue {
    /// Not set: the feature is off, or the profile requires a value.
    Unset,
    /// The same in every profile.
    Same(&'static str),
    /// One value in profile `local`, one in `aws`.
    ByProfile { local: &'static str, aws: &'static str },
    /// Computed from the machine or from settings declared earlier; `description` is what the documentation says.
    Derived { description: &'static str, compute: fn(&Reader<'_>) -> Option<String> },
}

impl DefaultValue {
    /// Returns the default as the documentation writes it.
    pub fn describe(&self) -> String {
        match self {
            Self::Unset => "not set".to_owned(),
            Self::Same(text) => format!("`{text}`"),
            Self::ByProfile { local, aws } => format!("`{local}`; aws `{aws}`"),
            Self::Derived { description, .. } => (*description).to_owned(),
        }
    }
}

/// Declares a struct of settings: each entry is help (its doc comment), name, type, default and, where one applies, range.
///
/// The key is the prefix followed by the field's name. The struct gets `DEFINITIONS`, the rows of the table, and
/// `read`, which returns `None` when at least one of its values is unusable (the reader then holds the problems).
macro_rules! settings {
    (
        $(#[doc = $about:literal])+
        $name:ident, $prefix:literal;
        $( $(#[doc = $help:literal])+ $field:ident: $type:ty = $default:expr $(, $low:literal to $high:literal)?; )+
        $( sections { $( $(#[doc = $section_help:literal])+ $section:ident: $section_type:ident; )+ } )?
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug)]
        pub struct $name {
            $( $(#[doc = $help])+ pub $field: $type, )+
            $( $( $(#[doc = $section_help])+ pub $section: $section_type, )+ )?
        }

        impl $name {
            pub(super) const DEFINITIONS: &'static [$crate::config::Definition] = &[
                $( $crate::config::Definition {
                    key: concat!($prefix, stringify!($field)),
                    rule: <$type as $crate::config::Value>::RULE,
                    range: settings!(@range $($low to $high)?),
                    default: $default,
                    secret: <$type as $crate::config::Value>::SECRET,
                    help: concat!($($help),+),
                }, )+
            ];

            pub(super) fn read(reader: &mut $crate::config::resolve::Reader<'_>) -> Option<Self> {
                let mut definitions = Self::DEFINITIONS.iter();
                $( let $field: Option<$type> = reader.read(definitions.next()?); )+
                $( $( let $section = $section_type::read(reader); )+ )?
                Some(Self { $( $field: $field?, )+ $( $( $section: $section?, )+ )? })
            }
        }
    };
    (@range) => { None };
    (@range $low:literal to $high:literal) => { Some(($low, $high)) };
}
pub(super) use settings;
