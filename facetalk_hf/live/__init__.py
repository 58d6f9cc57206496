# SPDX-License-Identifier: MIT
"""The face while it speaks: conversations, frames at their time, and the protocols of engines and web pages."""
