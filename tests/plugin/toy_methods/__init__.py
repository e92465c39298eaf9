"""Methods of a third party, found through entry points; fast and with faults to inject."""
