//! What is said about completions and manual pages on the command line.

/// What the help of `lab completions` ends with.
pub(super) const COMPLETIONS: &str = "\
The program's name is `lab`, so give the alias of cargo that name, too. In ~/.bashrc:
  alias lab='cargo lab'
  source <(cargo lab completions bash)";

/// What the help of `lab man` ends with.
pub(super) const MAN: &str = "\
Examples:
  cargo lab man | man -l -
  cargo lab man ~/.local/share/man/man1    (then: man lab-run)";
