//! Pager: scenes on a terminal, one at a time; keys go forward and back.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use anyhow::{Context, Result};
use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use crossterm::terminal::{
    self, Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode,
    enable_raw_mode,
};
use crossterm::{execute, queue};

use super::recording::Recording;
use super::scene::scenes;
use super::text::{self, Style};
use crate::failure::Failure;
use crate::interrupt;

/// One after the other, as text, for whoever is no terminal.
#[must_use]
pub fn plain(recording: &Recording, style: Style) -> String {
    let mut all = String::new();
    for story in &recording.scenarios {
        if !all.is_empty() {
            all.push('\n');
        }
        all += &text::head(story, style);
        for scene in scenes(story) {
            all.push('\n');
            all += &text::scene(&scene, style);
        }
    }
    all
}

/// Whether there is somebody who can press keys and see what comes of it.
#[must_use]
pub fn has_terminal() -> bool {
    io::stdout().is_terminal() && io::stdin().is_terminal()
}

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// The next screen.
    Forward,
    /// The one before.
    Back,
    /// The first one of the next scenario.
    NextStory,
    /// The first one of this scenario, or of the one before.
    StoryBefore,
    /// The very first.
    First,
    /// The very last.
    Last,
    /// What does not fit.
    Down,
    /// And back.
    Up,
    /// An end.
    Quit,
}

/// What the keys are, for the bottom line.
const KEYS: &str =
    "space/\u{2192} next   \u{2190} back   n/p scenario   \u{2193}\u{2191} scroll   q quit";

/// What this key asks for, if anything.
#[must_use]
pub fn wish(key: KeyEvent) -> Option<Wish> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    Some(match key.code {
        KeyCode::Char('c' | 'd') if control => Wish::Quit,
        KeyCode::Char('q') | KeyCode::Esc => Wish::Quit,
        KeyCode::Char(' ' | 'l') | KeyCode::Right | KeyCode::PageDown | KeyCode::Enter => {
            Wish::Forward
        }
        KeyCode::Char('h' | 'b') | KeyCode::Left | KeyCode::PageUp | KeyCode::Backspace => {
            Wish::Back
        }
        KeyCode::Char('n') | KeyCode::Tab => Wish::NextStory,
        KeyCode::Char('p') | KeyCode::BackTab => Wish::StoryBefore,
        KeyCode::Char('j') | KeyCode::Down => Wish::Down,
        KeyCode::Char('k') | KeyCode::Up => Wish::Up,
        KeyCode::Char('g') | KeyCode::Home => Wish::First,
        KeyCode::Char('G') | KeyCode::End => Wish::Last,
        _ => return None,
    })
}

/// Where somebody is who looks through the scenes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The scenario.
    pub story: usize,
    /// Its step.
    pub step: usize,
    /// Lines that are above the screen.
    pub above: usize,
}

impl Place {
    /// Where a wish leads to; `sizes` are the numbers of steps of the scenarios, none of them 0.
    #[must_use]
    pub fn after(self, wish: Wish, sizes: &[usize]) -> Self {
        let at = |story: usize, step: usize| Self {
            story,
            step,
            above: 0,
        };
        let last = sizes.len().saturating_sub(1);
        let size = |story: usize| sizes.get(story).copied().unwrap_or(1);
        let Self { story, step, above } = self;
        match wish {
            Wish::Forward if step + 1 < size(story) => at(story, step + 1),
            Wish::Forward | Wish::NextStory if story < last => at(story + 1, 0),
            Wish::Back if step > 0 => at(story, step - 1),
            Wish::Back if story > 0 => at(story - 1, size(story - 1).saturating_sub(1)),
            Wish::StoryBefore if step == 0 && story > 0 => at(story - 1, 0),
            Wish::StoryBefore => at(story, 0),
            Wish::First => at(0, 0),
            Wish::Last => at(last, size(last).saturating_sub(1)),
            Wish::Down => Self {
                above: above + 1,
                ..self
            },
            Wish::Up => Self {
                above: above.saturating_sub(1),
                ..self
            },
            _ => self,
        }
    }
}

/// The terminal while it shows scenes, put back into its old state when dropped.
struct Screen;

impl Screen {
    fn new() -> Result<Self> {
        enable_raw_mode().context("failed to read single keys from the terminal")?;
        let screen = Self;
        execute!(io::stdout(), EnterAlternateScreen, Hide)
            .context("failed to write to the terminal")?;
        Ok(screen)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Nothing can be done about a terminal that is gone.
        let _ = execute!(io::stdout(), LeaveAlternateScreen, Show);
        let _ = disable_raw_mode();
    }
}

/// Shows the scenes until somebody has seen enough.
///
/// # Errors
///
/// When the terminal cannot be used, or the lab is asked to stop; a key that asks for that is no error.
pub fn page_through(recording: &Recording, color: bool) -> Result<()> {
    /// How soon a signal is noticed.
    const A_WHILE: Duration = Duration::from_millis(200);
    let shown: Vec<_> = recording.scenarios.iter().collect();
    let sizes: Vec<_> = shown.iter().map(|story| story.steps.len().max(1)).collect();
    let mut place = Place::default();
    let _screen = Screen::new()?;
    let context = "failed to use the terminal";
    loop {
        let (width, height) = terminal::size().context(context)?;
        let style = Style {
            width: usize::from(width),
            color,
        };
        let Some(story) = shown.get(place.story) else {
            return Ok(());
        };
        let mut text = text::head(story, style) + "\n";
        if let Some(scene) = scenes(story).get(place.step) {
            text += &text::scene(scene, style);
        }
        let room = usize::from(height).saturating_sub(2);
        let nr_lines = text.lines().count();
        place.above = place.above.min(nr_lines.saturating_sub(room));
        draw(&text, place.above, room, style).context(context)?;
        while !event::poll(A_WHILE).context(context)? {
            if interrupt::requested() {
                return Err(Failure::Interrupted("showing the scenarios".into()).into());
            }
        }
        // Of a new size it is enough to know: it is asked for above.
        if let Event::Key(key) = event::read().context(context)? {
            match wish(key) {
                Some(Wish::Quit) => return Ok(()),
                Some(wish) => place = place.after(wish, &sizes),
                None => {}
            }
        }
    }
}

fn draw(text: &str, above: usize, room: usize, style: Style) -> io::Result<()> {
    let mut out = io::stdout().lock();
    queue!(out, Clear(ClearType::All), MoveTo(0, 0))?;
    let hidden = text.lines().count().saturating_sub(above + room);
    for line in text.lines().skip(above).take(room) {
        write!(out, "{line}\r\n")?;
    }
    let more = if hidden > 0 {
        format!("   ({hidden} lines below)")
    } else {
        String::new()
    };
    let bottom: String = format!("{KEYS}{more}").chars().take(style.width).collect();
    let row = u16::try_from(room + 1).unwrap_or(u16::MAX);
    queue!(out, MoveTo(0, row))?;
    write!(out, "{bottom}")?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_go_through_all_scenes_and_stop_at_both_ends() {
        let sizes = [2, 1];
        let mut place = Place::default();
        let mut seen = vec![(place.story, place.step)];
        for _ in 0..4 {
            place = place.after(Wish::Forward, &sizes);
            seen.push((place.story, place.step));
        }
        assert_eq!(seen, [(0, 0), (0, 1), (1, 0), (1, 0), (1, 0)]);
        place = place.after(Wish::Back, &sizes);
        assert_eq!((place.story, place.step), (0, 1));
        place = place.after(Wish::StoryBefore, &sizes);
        assert_eq!((place.story, place.step), (0, 0));
        assert_eq!(place.after(Wish::Back, &sizes), place);
        assert_eq!(place.after(Wish::Last, &sizes).story, 1);
    }

    #[test]
    fn a_key_that_is_released_asks_for_nothing() {
        let mut key = KeyEvent::new(KeyCode::Char('q'), KeyModifiers::NONE);
        assert_eq!(wish(key), Some(Wish::Quit));
        key.kind = KeyEventKind::Release;
        assert_eq!(wish(key), None);
        let other = KeyEvent::new(KeyCode::Char('x'), KeyModifiers::NONE);
        assert_eq!(wish(other), None);
    }
}
