//! A QR code in a terminal: two modules per character, as half blocks.

use std::fmt::Write as _;

use qrcodegen::{QrCode, QrCodeEcc};

/// Light modules around the code, which scanners need (ISO/IEC 18004 asks for four; two suffice
/// for phones and keep the picture within 80 columns).
const QUIET: i32 = 2;

/// Draws `text`, black on white whatever the terminal's colours. `None` if it is too long.
pub(super) fn draw(text: &str) -> Option<String> {
    let code = QrCode::encode_text(text, QrCodeEcc::Low).ok()?;
    let range = -QUIET..code.size() + QUIET;
    let mut picture = String::new();
    for y in range.clone().step_by(2) {
        picture.push_str("\x1b[30;107m");
        for x in range.clone() {
            picture.push(match (code.get_module(x, y), code.get_module(x, y + 1)) {
                (false, false) => ' ',
                (true, false) => '▀',
                (false, true) => '▄',
                (true, true) => '█',
            });
        }
        let _ = writeln!(picture, "\x1b[0m");
    }
    Some(picture)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_long_code_fits_the_terminal() {
        let picture = super::draw(&format!("wanbond1:{}", "x".repeat(200))).unwrap();
        let widest = picture.lines().map(|line| line.chars().count()).max().unwrap();
        // 12 characters of each line set the colours.
        assert!(widest - 12 <= 80, "{widest}");
        assert!(super::draw(&"x".repeat(5000)).is_none());
    }
}
