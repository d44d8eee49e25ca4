//! Kubernetes quantities as the API server writes them: what is sent otherwise comes back changed, and would look changed for ever.
//! After apimachinery's `resource.Quantity`.

/// Nano is the finest; what is finer is rounded up.
const NANOS: i128 = 1_000_000_000;
/// Decimal suffixes and their power of ten, in nanos, from large to small.
const DECIMAL: [(&str, u32); 10] =
    [("E", 27), ("P", 24), ("T", 21), ("G", 18), ("M", 15), ("k", 12), ("", 9), ("m", 6), ("u", 3), ("n", 0)];
const BINARY: [(&str, u32); 6] = [("Ei", 60), ("Pi", 50), ("Ti", 40), ("Gi", 30), ("Mi", 20), ("Ki", 10)];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Binary,
    Decimal,
    Exponent,
}

/// The canonical form of a quantity; the text itself where it is none, which the API server then refuses.
pub fn canonical(text: &str) -> String {
    let Some((nanos, format)) = parse(text) else { return text.to_owned() };
    if nanos == 0 {
        return "0".to_owned();
    }
    let is_whole = nanos % NANOS == 0;
    match format {
        Format::Binary if is_whole && nanos.abs() >= 1_024 * NANOS => binary(nanos / NANOS),
        Format::Binary | Format::Decimal => {
            let (number, suffix, _) = decimal(nanos);
            format!("{number}{suffix}")
        }
        Format::Exponent => match decimal(nanos) {
            (number, _, 0) => number.to_string(),
            (number, _, exponent) => format!("{number}e{exponent}"),
        },
    }
}

/// A quantity of whole things, such as bytes, rounded down.
pub fn whole(text: &str) -> Option<u64> {
    let (nanos, _) = parse(text)?;
    u64::try_from(nanos / NANOS).ok()
}

fn binary(number: i128) -> String {
    for (suffix, bits) in BINARY {
        if number % (1_i128 << bits) == 0 {
            return format!("{}{suffix}", number >> bits);
        }
    }
    number.to_string()
}

/// The number, its suffix, and the power of ten that this is.
fn decimal(nanos: i128) -> (i128, &'static str, i64) {
    let fits = DECIMAL.into_iter().find(|(_, power)| nanos % 10_i128.pow(*power) == 0);
    // The last has the power 0, and divides everything.
    let (suffix, power) = fits.unwrap_or(("n", 0));
    (nanos / 10_i128.pow(power), suffix, i64::from(power) - 9)
}

fn parse(text: &str) -> Option<(i128, Format)> {
    let digits_end =
        text.find(|letter: char| !(letter.is_ascii_digit() || "+-.".contains(letter))).unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits_end);
    let (sign, number) = match number.strip_prefix('-') {
        Some(number) => (-1, number),
        None => (1, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let all: i128 = format!("{whole}{fraction}").parse().ok()?;
    // The schema lets 32 characters through.
    let fraction_digits = u32::try_from(fraction.len()).ok()?;
    let (numerator, format) = scale(suffix)?;
    let numerator = match numerator {
        Scale::Bits(bits) => NANOS.checked_mul(1_i128 << bits)?,
        Scale::Power(power) if (0..=30).contains(&power) => 10_i128.pow(power.unsigned_abs()),
        Scale::Power(_) => return None,
    };
    let product = all.checked_mul(numerator)?;
    let divisor = 10_i128.checked_pow(fraction_digits)?;
    let nanos = product / divisor + i128::from(product % divisor != 0);
    Some((sign * nanos, format))
}

enum Scale {
    Bits(u32),
    /// Of ten, in nanos.
    Power(i32),
}

fn scale(suffix: &str) -> Option<(Scale, Format)> {
    if let Some((_, bits)) = BINARY.iter().find(|(name, _)| *name == suffix) {
        return Some((Scale::Bits(*bits), Format::Binary));
    }
    if let Some((_, power)) = DECIMAL.iter().find(|(name, _)| *name == suffix) {
        return Some((Scale::Power(i32::try_from(*power).ok()?), Format::Decimal));
    }
    let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    Some((Scale::Power(exponent.checked_add(9)?), Format::Exponent))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quantities_are_written_as_the_api_server_writes_them() {
        for (text, expected) in [
            ("0", "0"),
            ("0.0Mi", "0"),
            ("0.5", "500m"),
            ("1000m", "1"),
            ("1500m", "1500m"),
            ("2", "2"),
            ("1024Mi", "1Gi"),
            ("0.5Gi", "512Mi"),
            ("1.5Gi", "1536Mi"),
            ("1000Mi", "1000Mi"),
            ("1000M", "1G"),
            ("1000", "1k"),
            ("1200", "1200"),
            ("1024", "1024"),
            ("1Ki", "1Ki"),
            ("0.5Ki", "512"),
            ("0.0001Ki", "102400u"),
            ("1e3", "1e3"),
            ("12e2", "1200"),
            ("1E3", "1e3"),
            ("1E", "1E"),
            ("+1", "1"),
            ("-1", "-1"),
            ("100u", "100u"),
            ("0.1n", "1n"),
            (".5", "500m"),
            ("1.", "1"),
        ] {
            assert_eq!(canonical(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_quantity_is_left_as_it_is() {
        for text in ["", "x", "1x", "1.2.3", "1e", "1e99", "1-2"] {
            assert_eq!(canonical(text), text);
        }
    }

    #[test]
    fn whole_things_are_rounded_down() {
        assert_eq!(whole("1.5Ki"), Some(1_536));
        assert_eq!(whole("1500m"), Some(1));
        assert_eq!(whole("-1"), None);
        assert_eq!(whole("lots"), None);
    }

    proptest! {
        #[test]
        fn the_canonical_form_is_canonical_and_as_much(
            text in r"[0-9]{1,6}(\.[0-9]{1,3})?(Ki|Mi|Gi|m|k|M|G|e3|E2|)"
        ) {
            let canonical_text = canonical(&text);
            prop_assert_eq!(canonical(&canonical_text), canonical_text.clone());
            prop_assert_eq!(parse(&text).map(|it| it.0), parse(&canonical_text).map(|it| it.0));
        }
    }
}
