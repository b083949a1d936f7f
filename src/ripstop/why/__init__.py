"""Why a number is what it is: from what the paper prints back to the records and the runs behind it."""
