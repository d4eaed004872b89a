//! The fits as one page of plots.
use super::{Fit, Measure};
use crate::page::{Page, Plot};

pub(super) fn page(fits: &[Fit]) -> String {
    let mut page = Page::new("Simulated beside measured");
    page.paragraph("A distance of 0 is alike.");
    let head = ["figure", "distance", "as", "file"].map(str::to_owned).to_vec();
    let rows = fits.iter().map(|Fit { title, distance, measure, file, .. }| {
        vec![title.clone(), format!("{distance:.3}"), meaning(*measure).to_owned(), (*file).to_owned()]
    });
    page.table(&std::iter::once(head).chain(rows).collect::<Vec<_>>());
    for fit in fits {
        page.plot(&plot(fit));
    }
    page.finish()
}

fn meaning(measure: Measure) -> &'static str {
    match measure {
        Measure::Profile => "mean difference over the measured mean",
        Measure::Shares => "half of the differences of the shares",
        Measure::Distribution => "largest difference of the shares below a value",
    }
}

fn plot(fit: &Fit) -> Plot {
    let line = |values: &[f64]| fit.positions.iter().copied().zip(values.iter().copied()).collect::<Vec<_>>();
    Plot::over(&format!("{}, distance {:.3}", fit.title, fit.distance), fit.axis, fit.unit)
        .line("measured", line(&fit.measured))
        .line("simulated", line(&fit.simulated))
}
