//! A picture that is kept from one look to the next, so that each look tells what has changed.

/// Lines whose changes make one rectangle.
const BAND: usize = 16;

/// A rectangle of pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rect {
    /// Left edge.
    pub x: u32,
    /// Upper edge.
    pub y: u32,
    /// Width.
    pub width: u32,
    /// Height.
    pub height: u32,
}

/// What a look has changed in a [`Frame`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// The size is another one; everything counts as changed.
    pub resized: bool,
    /// Where pixels have changed. The rectangles do not overlap.
    pub rects: Vec<Rect>,
}

/// A picture: lines of pixels, each 0x00rrggbb.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    width: usize,
    height: usize,
    pixels: Vec<u32>,
}

impl Frame {
    /// A picture without pixels.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Width and height.
    #[must_use]
    pub fn size(&self) -> (u32, u32) {
        (self.width as u32, self.height as u32)
    }

    /// All pixels, line by line.
    #[must_use]
    pub fn pixels(&self) -> &[u32] {
        &self.pixels
    }

    /// A line; empty outside of the picture.
    #[must_use]
    pub fn line(&self, y: u32) -> &[u32] {
        let start = (y as usize).saturating_mul(self.width);
        self.pixels.get(start..start + self.width).unwrap_or_default()
    }

    /// Begins a look.
    pub(super) fn look(&mut self, (width, height): (u32, u32)) -> Look<'_> {
        let (width, height) = (width as usize, height as usize);
        let resized = (self.width, self.height) != (width, height);
        if resized {
            (self.width, self.height) = (width, height);
            self.pixels.clear();
            self.pixels.resize(width * height, 0);
        }
        Look {
            bands: vec![None; height.div_ceil(BAND)],
            resized,
            frame: self,
        }
    }
}

/// A look under way.
pub(super) struct Look<'a> {
    frame: &'a mut Frame,
    /// First and last column that changed in each band.
    bands: Vec<Option<(usize, usize)>>,
    resized: bool,
}

impl Look<'_> {
    /// Puts a line, as long as the picture is wide.
    pub(super) fn put(&mut self, y: usize, line: &[u32]) {
        let width = self.frame.width;
        let Some(old) = self.frame.pixels.get_mut(y * width..(y + 1) * width) else {
            return;
        };
        let Some(first) = old.iter().zip(line).position(|(old, new)| old != new) else {
            return;
        };
        let last = old
            .iter()
            .zip(line)
            .rposition(|(old, new)| old != new)
            .unwrap_or(first);
        old[first..=last].copy_from_slice(&line[first..=last]);
        let band = &mut self.bands[y / BAND];
        *band = match *band {
            None => Some((first, last)),
            Some((from, to)) => Some((from.min(first), to.max(last))),
        };
    }

    /// Ends the look.
    pub(super) fn damage(self) -> Damage {
        let (width, height) = self.frame.size();
        if self.resized {
            let all = Rect {
                x: 0,
                y: 0,
                width,
                height,
            };
            return Damage {
                resized: true,
                rects: vec![all],
            };
        }
        let mut rects: Vec<Rect> = Vec::new();
        for (number, band) in self.bands.iter().enumerate() {
            let Some((first, last)) = *band else { continue };
            let y = (number * BAND) as u32;
            let (x, across, down) = (
                first as u32,
                (last - first + 1) as u32,
                (BAND as u32).min(height - y),
            );
            match rects.last_mut() {
                Some(above) if (above.x, above.width, above.y + above.height) == (x, across, y) => {
                    above.height += down;
                }
                _ => rects.push(Rect {
                    x,
                    y,
                    width: across,
                    height: down,
                }),
            }
        }
        Damage {
            resized: false,
            rects,
        }
    }
}
