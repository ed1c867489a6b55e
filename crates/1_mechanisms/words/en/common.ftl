# Words that several rooms use.
yes = yes
no = no
fault-untold = something went wrong that this program has no words for { $details }
