// Broken: two functions each believe that the channel is theirs to close.
package main

import "fmt"

func main() {
	words := make(chan string, 1)
	defer close(words)
	words <- "first"
	close(words)
	fmt.Println("received:", <-words)
}
