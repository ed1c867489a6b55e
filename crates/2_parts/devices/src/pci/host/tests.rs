//! The host bridge with functions behind it.

use super::*;
use crate::pci::Bar;

/// A card: BAR 0 of registers that answer their offset, BAR 1 of memory, BAR 2 of ports.
struct Card {
    config: Config,
    block: Block,
    moves: Vec<(u8, Option<u64>)>,
}

impl Device for Card {
    fn name(&self) -> &str {
        "card"
    }
    fn reset(&mut self) {
        self.config.reset();
    }
    fn save(&self) -> Result<Saved> {
        Saved::new(1, &self.config.save())
    }
    fn restore(&mut self, saved: &Saved) -> Result<()> {
        self.config.restore(&saved.fields(1)?)
    }
    fn registers(&mut self) -> Option<&mut dyn Registers> {
        Some(self)
    }
}

impl Registers for Card {
    fn read(&mut self, region: u32, offset: u64, data: &mut [u8]) -> Access {
        data.fill((region << 4) as u8 | offset as u8);
        Access::Done
    }
    fn write(&mut self, _: u32, _: u64, _: &[u8]) -> Access {
        Access::Done
    }
}

impl Function for Card {
    fn config(&self) -> &Config {
        &self.config
    }
    fn config_mut(&mut self) -> &mut Config {
        &mut self.config
    }
    fn bar_memory(&self, bar: u8) -> Option<Block> {
        (bar == 1).then(|| self.block.clone())
    }
    fn moved(&mut self, bar: u8, address: Option<u64>) {
        self.moves.push((bar, address));
    }
}

#[derive(Default)]
struct Maps(Mutex<Vec<Map>>);

impl Mapper for Maps {
    fn changed(&self, map: &Map) {
        self.0.lock().unwrap().push(map.clone());
    }
}

fn card() -> Arc<Mutex<Card>> {
    let config = Config::new(Identity {
        vendor: 0x1234,
        device: 0x1111,
        ..Identity::default()
    })
    .bar(
        0,
        Bar::Memory32 {
            size: 0x1000,
            prefetchable: false,
        },
    )
    .bar(
        1,
        Bar::Memory32 {
            size: 0x10000,
            prefetchable: true,
        },
    )
    .bar(2, Bar::Io { size: 16 });
    let block = Block::new("card", 0x10000).unwrap();
    Arc::new(Mutex::new(Card {
        config,
        block,
        moves: Vec::new(),
    }))
}

struct Bench {
    bus: Arc<Bus>,
    maps: Arc<Maps>,
    root: Arc<Mutex<Root>>,
    card: Arc<Mutex<Card>>,
}

const ECAM: u64 = 0xe000_0000;

fn bench() -> Bench {
    let bus = Arc::new(Bus::new());
    let maps = Arc::new(Maps::default());
    let root = Root::new(
        &bus,
        vec![0xc000_0000..0xe000_0000, 0xf000_0000..0xfec0_0000],
        false,
        maps.clone(),
    );
    let shared: Shared = root.clone();
    crate::chipset::attach(&bus, &shared, PORTS);
    bus.add_memory(ECAM, ECAM_LEN, 0, &shared);
    let card = card();
    root.lock().unwrap().plug(3, 0, card.clone());
    Bench {
        bus,
        maps,
        root,
        card,
    }
}

impl Bench {
    fn write(&self, number: u32, offset: u32, value: u32) {
        self.bus
            .port_write(0xcf8, &(1 << 31 | number << 8 | offset).to_le_bytes());
        self.bus.port_write(0xcfc, &value.to_le_bytes());
    }

    fn read(&self, number: u32, offset: u32) -> u32 {
        self.bus
            .port_write(0xcf8, &(1 << 31 | number << 8 | offset).to_le_bytes());
        let mut data = [0; 4];
        self.bus.port_read(0xcfc, &mut data);
        u32::from_le_bytes(data)
    }

    fn memory(&self, address: u64) -> u8 {
        let mut data = [0];
        self.bus.mmio_read(address, &mut data);
        data[0]
    }
}

#[test]
fn functions_are_found_by_ports_and_by_the_ecam_window() {
    let bench = bench();
    assert_eq!(bench.read(0, 0), 0x1237_8086);
    assert_eq!(bench.read(3 << 3, 0), 0x1111_1234);
    assert_eq!(bench.read(4 << 3, 0), u32::MAX);
    let mut data = [0; 8];
    bench.bus.mmio_read(ECAM + (3 << 15), &mut data);
    assert_eq!(data[..4], 0x1111_1234_u32.to_le_bytes());
    bench.bus.mmio_read(ECAM + (1 << 20), &mut data);
    assert_eq!(data, [0xff; 8]);
    bench.bus.mmio_write(ECAM + (3 << 15) + 0x3c, &[11]);
    assert_eq!(bench.read(3 << 3, 0x3c) & 0xff, 11);
}

#[test]
fn windows_follow_their_bars_and_memory_is_mapped() {
    let bench = bench();
    bench.write(0x18, 0x10, 0xf000_0000);
    bench.write(0x18, 0x14, 0xc000_0000);
    bench.write(0x18, 0x18, 0xc000);
    assert_eq!(bench.memory(0xf000_0003), 0xff);
    bench.write(0x18, 4, 3);
    assert_eq!(bench.memory(0xf000_0003), 3);
    let mut data = [0];
    bench.bus.port_read(0xc005, &mut data);
    assert_eq!(data, [0x25]);
    let map = bench.root.lock().unwrap().map();
    assert_eq!(
        map.windows.iter().map(|window| window.start).collect::<Vec<_>>(),
        [0xc000_0000]
    );
    assert!(bench.maps.0.lock().unwrap().last().unwrap() == &map);
    bench.write(0x18, 0x10, 0xf100_0000);
    assert_eq!((bench.memory(0xf000_0003), bench.memory(0xf100_0003)), (0xff, 3));
    bench.write(0x18, 4, 0);
    assert_eq!(bench.memory(0xf100_0003), 0xff);
    assert!(bench.root.lock().unwrap().map().windows.is_empty());
    let moves = bench.card.lock().unwrap().moves.clone();
    assert_eq!(moves[moves.len() - 3..], [(0, None), (1, None), (2, None)]);
}

#[test]
fn a_bar_over_system_windows_or_over_another_bar_does_not_open() {
    let bench = bench();
    let other = card();
    bench.root.lock().unwrap().plug(4, 0, other);
    bench.write(0x18, 4, 2);
    bench.write(0x20, 4, 2);
    for address in [0xfec0_0000, 0xfee0_0000, 0xe000_0000, 0, 0x10_0000, 0xffff_f000] {
        bench.write(0x18, 0x14, address);
        assert!(
            bench.root.lock().unwrap().map().windows.is_empty(),
            "{address:#x}"
        );
    }
    bench.write(0x18, 0x14, 0xc000_0000);
    bench.write(0x20, 0x14, 0xc000_0000);
    bench.write(0x20, 0x10, 0xc000_8000);
    let map = bench.root.lock().unwrap().map();
    assert_eq!(map.windows.len(), 1);
    assert!(map.windows[0].block.is(&bench.card.lock().unwrap().block));
    bench.write(0x20, 0x10, 0xf000_0000);
    bench.write(0x18, 0x14, 0xd000_0000);
    assert_eq!(bench.root.lock().unwrap().map().windows.len(), 2);
}

#[test]
fn shadow_memory_is_told_when_it_changes() {
    let bench = bench();
    let before = bench.maps.0.lock().unwrap().len();
    assert!(
        bench
            .root
            .lock()
            .unwrap()
            .map()
            .shadows
            .iter()
            .all(|shadow| !shadow.read && !shadow.write)
    );
    // SeaBIOS makes all of it RAM.
    bench.write(0, 0x58, 0x3333_3000);
    bench.write(0, 0x5c, 0x3333_3333);
    let map = bench.root.lock().unwrap().map();
    assert!(map.shadows.iter().all(|shadow| shadow.read && shadow.write));
    assert_eq!(
        map.shadows.iter().fold(0xc0000, |at, shadow| {
            assert_eq!(at, shadow.start);
            at + shadow.len
        }),
        0x100000
    );
    bench.write(0, 0x58, 0x3333_1000);
    let last = *bench.root.lock().unwrap().map().shadows.last().unwrap();
    assert!(last.read && !last.write && last.start == 0xf0000);
    assert_eq!(bench.maps.0.lock().unwrap().len(), before + 3);
    bench.write(0, 0x70, 0x4a << 16);
    assert!(bench.root.lock().unwrap().map().smram);
    bench.write(0, 0x70, 0x1a << 16);
    bench.write(0, 0x70, 0x4a << 16);
    assert!(!bench.root.lock().unwrap().map().smram, "locked");
}

#[test]
fn a_restored_machine_has_the_same_windows_after_it_resumes() {
    let (one, two) = (bench(), bench());
    one.write(0x18, 0x10, 0xf000_0000);
    one.write(0x18, 0x14, 0xc000_0000);
    one.write(0x18, 4, 2);
    one.write(0, 0x58, 0x3333_3000);
    let (card, root) = (
        one.card.lock().unwrap().save().unwrap(),
        one.root.lock().unwrap().save().unwrap(),
    );
    two.root.lock().unwrap().restore(&root).unwrap();
    two.card.lock().unwrap().restore(&card).unwrap();
    two.root.lock().unwrap().resume();
    assert_eq!(two.memory(0xf000_0003), 3);
    let starts = |bench: &Bench| {
        bench
            .root
            .lock()
            .unwrap()
            .map()
            .windows
            .iter()
            .map(|it| it.start)
            .collect::<Vec<_>>()
    };
    assert_eq!(starts(&one), starts(&two));
    assert_eq!(
        one.root.lock().unwrap().map().shadows,
        two.root.lock().unwrap().map().shadows
    );
}
