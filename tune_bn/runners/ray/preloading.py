"""What a worker of a Ray of this machine loads first, and what loads the rest sooner."""

from tune_bn.host.collector import collect_seldom

collect_seldom()
