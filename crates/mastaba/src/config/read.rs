//! The one parser: dotted keys to settings.

use std::collections::BTreeMap;

use super::form::{Form, Input, Pair};
use super::names::{TOP, is_region_name, names, near_miss, of_a_region, set};
use super::problems::{Doubts, Problems, Understood, closest};
use super::{OF_REGIONS, POLICY, RegionSettings, Settings, near, value};

/// Reads everything, or lists everything that is wrong.
pub(super) fn settings(input: Input) -> Result<Settings, Problems> {
    let Input { form, problems, doubts, .. } = input;
    let mut reader = SettingsReader { form, settings: Settings::default(), problems, doubts };
    let mut seen = BTreeMap::new();
    for pair in &input.pairs {
        match seen.insert(&pair.key, &pair.written) {
            None => reader.read(pair),
            // Which one counts would depend on their order, and a map has none.
            Some(before) if *before == pair.written => {
                reader.problems.push(format!("{}: given twice", pair.written));
            }
            Some(before) => reader.problems.push(format!("{}: the same setting as {before}", pair.written)),
        }
    }
    let SettingsReader { mut settings, problems, doubts, .. } = reader;
    if problems.is_empty() {
        return Ok(settings);
    }
    // a region of which nothing could be read is there all the same
    for region in doubts.regions_of_settings() {
        settings.regions.entry(region).or_default();
    }
    Err(problems.beside(Understood { settings, doubts }))
}

struct SettingsReader {
    form: Form,
    settings: Settings,
    problems: Problems,
    doubts: Doubts,
}

impl SettingsReader {
    fn read(&mut self, pair: &Pair) {
        let Some(text) = &pair.value else { return self.read_empty_table(pair) };
        match pair.key.strip_prefix("cache.") {
            Some(rest) => self.read_region(pair, rest, text),
            None => self.read_top(pair, text),
        }
    }

    fn read_top(&mut self, pair: &Pair, text: &str) {
        let read = value::text(text);
        let done = match pair.key.as_str() {
            "data_dir" => set(&mut self.settings.data_dir, read.map(Into::into)),
            "namespace" => set(&mut self.settings.namespace, read),
            _ => return self.unknown_top(pair),
        };
        self.judge(pair, text, done);
    }

    fn read_region(&mut self, pair: &Pair, rest: &str, text: &str) {
        let (name, setting) = rest.split_once('.').unwrap_or((rest, ""));
        if !self.is_region(pair, name) {
            return;
        }
        if let Some(argument) = setting.strip_prefix("arguments.") {
            if argument.is_empty() {
                self.problems.push(format!("{}: the argument has no name", pair.written));
            } else {
                let arguments = &mut self.region(name).arguments;
                arguments.insert(argument.to_owned(), text.to_owned());
            }
        } else if let Some((_, read)) = of_a_region().find(|(known, _)| *known == setting) {
            let done = read(self.region(name), text);
            self.judge(pair, text, done);
        } else {
            self.unknown_setting(pair, name, setting);
        }
    }

    /// An empty table still says that what it would describe is wanted.
    fn read_empty_table(&mut self, pair: &Pair) {
        if pair.key == "cache" {
            return;
        }
        let Some(rest) = pair.key.strip_prefix("cache.") else { return self.unknown_top(pair) };
        let (name, group) = rest.split_once('.').unwrap_or((rest, ""));
        if !self.is_region(pair, name) {
            return;
        }
        match group {
            "" | "arguments" => {
                self.region(name);
            }
            "near" => {
                near(self.region(name));
            }
            _ => self.unknown_setting(pair, name, group),
        }
    }

    fn region(&mut self, name: &str) -> &mut RegionSettings {
        self.settings.regions.entry(name.to_owned()).or_default()
    }

    fn is_region(&mut self, pair: &Pair, name: &str) -> bool {
        if !is_region_name(name) {
            self.doubts.regions = true;
            let needed = "the name of a region consists of letters, digits, _ and -";
            self.problems.push(format!("{}: {name:?} is no region; {needed}", pair.written));
            return false;
        }
        true
    }

    fn judge(&mut self, pair: &Pair, text: &str, done: Result<(), String>) {
        if let Err(needed) = done {
            self.doubts.doubt(&pair.key);
            self.problems.push(format!("{} = {:?}: {needed}", pair.written, shown(text)));
        }
    }

    // The lines for unknown keys leave the value out: it is not what is wrong, and a misspelt `arguments` may have
    // a password behind it.

    fn unknown_top(&mut self, pair: &Pair) {
        let meant = near_miss(&pair.key).or_else(|| closest(&pair.key, &TOP).map(str::to_owned));
        match &meant {
            Some(meant) => self.doubts.doubt(meant),
            // a table that may be anybody's: `caches.a`
            None => self.doubts.regions |= pair.key.contains('.'),
        }
        let hint = meant.map(|meant| self.form.key(&meant));
        let [first, second] = TOP.map(|known| self.form.key(known));
        let third = self.form.key("cache.<region>.<setting>");
        let of_a_source = if hint.is_none() { self.of_a_source(&pair.key, "<region>") } else { None };
        let of_a_source = of_a_source.map(|told| format!("{told}; ")).unwrap_or_default();
        self.unknown(pair, hint, &format!("{of_a_source}there are: {first}, {second}, {third}"));
    }

    fn unknown_setting(&mut self, pair: &Pair, region: &str, setting: &str) {
        let known: Vec<&str> = names().chain(["arguments.*"]).collect();
        let listed = known.iter().map(|name| self.form.part(name)).collect::<Vec<_>>().join(", ");
        let meant = closest(setting, &known).map(|near| format!("cache.{region}.{near}"));
        let of_near = meant.as_ref().is_some_and(|meant| meant.contains(".near."));
        let of_a_source = if of_near { None } else { self.of_a_source(setting, region) };
        let dotted = of_a_source.is_some()
            || setting.split_once('.').is_some_and(|(group, last)| group != "near" && known.contains(&last));
        if dotted {
            self.doubts.regions = true;
        } else {
            self.region(region);
            meant.iter().for_each(|meant| self.doubts.doubt(meant));
        }
        let hint = meant.map(|meant| self.form.key(&meant));
        let of_a_source = of_a_source.map(|told| format!("{told}; ")).unwrap_or_default();
        let dot = if dotted { "the name of a region has no dot; " } else { "" };
        self.unknown(pair, hint, &format!("{of_a_source}{dot}a region has: {listed}"));
    }

    /// What to do instead of giving a setting of the policy to a source: `cache.objects.user.hold_ttl`.
    fn of_a_source(&self, key: &str, region: &str) -> Option<String> {
        let (group, setting) = key.rsplit_once('.')?;
        if group == "near" || group.ends_with(".near") || !POLICY.iter().any(|(name, _)| *name == setting) {
            return None;
        }
        let place = self.form.key(&format!("cache.{region}.{setting}"));
        Some(if OF_REGIONS.contains(&setting) {
            format!("{setting} is of a region, all sources of which share it: set {place}")
        } else {
            format!(
                "set {place} for all sources of the region, or let the source have it by `Source::policy`"
            )
        })
    }

    fn unknown(&mut self, pair: &Pair, hint: Option<String>, choices: &str) {
        let hint = hint.map(|near| format!(" (did you mean {near}?)")).unwrap_or_default();
        self.problems.push(format!("{}: there is no such setting{hint}; {choices}", pair.written));
    }
}

/// The text of a setting, for a message. One that is an address may have a password in it.
fn shown(text: &str) -> &str {
    if text.contains("://") || text.contains('@') { "***" } else { text }
}
