# Totals of the flights: how many left from each airport, how many miles they flew, and how many minutes they were late.
NR > 1 { total["origin/" $2] += 1; total["miles/" $2] += $4; total["delay/" $2] += $5 }
END { for (counter in total) print counter "\t" total[counter] }
