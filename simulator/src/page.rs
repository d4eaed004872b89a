//! A report as one HTML page that needs nothing else: text, tables, and plots as SVG inside it.
//!
//! Lines over two axes are all that is needed here, so the SVG is written by hand.
mod plot;

use std::fmt::Write;

pub use plot::{Axis, Line, Plot};

const STYLE: &str = "\
body{font:15px/1.5 system-ui,sans-serif;max-width:900px;margin:2em auto;padding:0 1em;color:#222;background:#fff}\
h1{font-size:1.5em}h2{font-size:1.15em;margin-top:2em}\
table{border-collapse:collapse;font-variant-numeric:tabular-nums}\
td,th{padding:2px 12px 2px 0;text-align:right}td:first-child,th:first-child{text-align:left}\
tr{border-bottom:1px solid #ddd}svg{width:100%;height:auto;margin:.6em 0}\
svg text{font:11px system-ui,sans-serif;fill:#444}svg .title{font-size:13px;font-weight:600;fill:#222}\
.grid{stroke:#e4e4e4}.mark{stroke:#999;stroke-dasharray:4 3}.line{fill:none;stroke-width:1.8}";

/// A page on its way. Whatever is put on it is escaped.
#[derive(Clone, Debug)]
pub struct Page {
    html: String,
}

impl Page {
    pub fn new(title: &str) -> Self {
        let title = escaped(title);
        Self {
            html: format!(
                "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title>\n\
                 <style>{STYLE}</style>\n<h1>{title}</h1>\n"
            ),
        }
    }

    pub fn heading(&mut self, words: &str) {
        self.append(format_args!("<h2>{}</h2>\n", escaped(words)));
    }

    pub fn paragraph(&mut self, words: &str) {
        self.append(format_args!("<p>{}</p>\n", escaped(words)));
    }

    /// The first row is the head.
    pub fn table(&mut self, rows: &[Vec<String>]) {
        self.html.push_str("<table>\n");
        for (row, cell) in rows.iter().zip(std::iter::once("th").chain(std::iter::repeat("td"))) {
            let cells: String = row.iter().map(|words| format!("<{cell}>{}</{cell}>", escaped(words))).collect();
            self.append(format_args!("<tr>{cells}</tr>\n"));
        }
        self.html.push_str("</table>\n");
    }

    pub fn plot(&mut self, plot: &Plot) {
        self.html.push_str(&plot.svg());
    }

    pub fn finish(mut self) -> String {
        self.html.push_str("</html>\n");
        self.html
    }

    fn append(&mut self, words: std::fmt::Arguments<'_>) {
        self.html.write_fmt(words).expect("a string takes what is written to it");
    }
}

fn escaped(words: &str) -> String {
    words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_needs_nothing_else_and_trusts_nobody() {
        let mut page = Page::new("load <1>");
        page.heading("a & b");
        page.paragraph("<script>");
        page.table(&[vec!["rate".to_owned()], vec!["\"5\"".to_owned()]]);
        page.plot(&Plot::over("p", "x", "y").line("l", [(0.0, 1.0)]));
        let html = page.finish();
        assert!(
            html.contains("load &lt;1&gt;")
                && html.contains("&lt;script&gt;")
                && html.contains("<td>&quot;5&quot;</td>")
        );
        assert!(html.contains("<svg") && !html.contains("http") && !html.contains("<script"), "{html}");
    }
}
