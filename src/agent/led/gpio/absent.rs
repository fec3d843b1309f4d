//! What stands for pins and buses in a program without the feature `gpio`: nothing, and it says so.

use super::super::DriverError;
use super::super::protocol::{Bytes, I2c, Output};
use super::Hardware;
use crate::board::{Board, I2cAddress};

pub(super) struct Pi {
    board: String,
}

impl Pi {
    pub(super) fn new(board: &Board) -> Self {
        Self { board: board.name.clone() }
    }

    fn refused<T>(&self) -> Result<T, DriverError> {
        let words = format!(
            "board {} has LEDs on pins or buses, but this program was built without the feature gpio; build it with it",
            self.board
        );
        Err(DriverError { words })
    }
}

impl Hardware for Pi {
    fn output(&self, _pin: u8, _high: bool) -> Result<Box<dyn Output>, DriverError> {
        self.refused()
    }

    fn i2c(&self, _at: I2cAddress) -> Result<Box<dyn I2c>, DriverError> {
        self.refused()
    }

    fn spi(&self, _bus: u8, _select: u8, _hz: u32) -> Result<Box<dyn Bytes>, DriverError> {
        self.refused()
    }
}
