"""``fedkd data``: fetch, verify and find the files of the data sets."""

from fedkd.commands.data.group import command as command
from fedkd.commands.data.group import root_option as root_option
